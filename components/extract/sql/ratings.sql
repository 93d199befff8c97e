-- Each row of the source is one rating: files, tables with mapped columns, and the user's own queries.
{% if timestamp %}
SELECT * REPLACE ({% include "readable_time.sql" %} AS event_time)
FROM (
{% endif %}
SELECT
  CAST({{ user }} AS {% if user_type == "INT64" %}INT64{% else %}STRING{% endif %}) AS user_id,
  CAST({{ item }} AS {% if item_type == "INT64" %}INT64{% else %}STRING{% endif %}) AS item_id,
{% if not rating %}
  CAST(1 AS FLOAT64) AS rating
{% elif rating_type == "STRING" %}
  -- One engine reads 1_000 as a thousand, the other 0x10 as sixteen.
  CASE WHEN NOT REGEXP_CONTAINS({{ rating }}, '[_xX]') THEN SAFE_CAST({{ rating }} AS FLOAT64) END AS rating
{% else %}
  CAST({{ rating }} AS FLOAT64) AS rating
{% endif %}
{% if timestamp %},
  {% include "event_time.sql" %}
  AS event_time
{% endif %}
{% if numbered %},
  source_row
{% endif %}
FROM {% include "source.sql" %}
{% include "rows.sql" %}
{% if timestamp %}
)
{% endif %}
