-- Each row of the source is one rating: files, tables with mapped columns, and the user's own queries.
SELECT
  CAST({{ user }} AS {% if user_type == "INT64" %}INT64{% else %}STRING{% endif %}) AS user_id,
  CAST({{ item }} AS {% if item_type == "INT64" %}INT64{% else %}STRING{% endif %}) AS item_id,
  SAFE_CAST({{ rating }} AS FLOAT64) AS rating
{% if timestamp %},
  {% include "event_time.sql" %}
  AS event_time
{% endif %}
{% if numbered %},
  source_row
{% endif %}
FROM {% include "source.sql" %}
{% include "rows.sql" %}
