-- A source of items, or a list of them, by id. Rows of the same id are one item; a missing title or category adds
-- nothing to what the others say, and those that contradict each other are counted. Of categories in one text, such as
-- Comedy|Drama, the first counts.
SELECT
  item_id,
  MIN(title) AS title,
  MIN(category) AS category,
  COUNT(DISTINCT title) AS titles,
  COUNT(DISTINCT category) AS categories
FROM (
  SELECT
    CAST({{ item }} AS STRING) AS item_id,
{% if title %}
    SUBSTR(NULLIF(CAST({{ title }} AS STRING), ''), 1, {{ longest_text }}) AS title,
{% else %}
    CAST(NULL AS STRING) AS title,
{% endif %}
{% if category %}
    SUBSTR(NULLIF(REGEXP_EXTRACT(CAST({{ category }} AS STRING), r'^[^|]*'), ''), 1, {{ longest_text }}) AS category
{% else %}
    CAST(NULL AS STRING) AS category
{% endif %}
  FROM {{ source }}
{% if without_blank_lines %}
  WHERE {{ item }} IS NOT NULL
{% endif %}
)
GROUP BY item_id
LIMIT {{ most_rows }}
