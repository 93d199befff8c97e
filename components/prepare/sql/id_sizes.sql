-- The number of ids, and of the bytes of their text.
SELECT
  COUNT(*) AS ids,
{% if is_text %}
  CAST(COALESCE(SUM(BYTE_LENGTH(id)), 0) AS INT64) AS text
{% else %}
  0 AS text
{% endif %}
FROM {{ ids }}
