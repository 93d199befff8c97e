-- Ratings by size, in fixed bins: eight for each doubling of 1 + |rating|; with the range of times. If there are
-- few distinct ratings, counting each of them first takes a fifth of the time.
SELECT
  CAST(FLOOR(8 * LN(1 + ABS(rating)) / LN(2) + 1e-9) AS INT64) * CASE WHEN rating < 0 THEN -1 ELSE 1 END AS bin,
{% if few %}
  CAST(SUM(interactions) AS INT64) AS interactions,
{% else %}
  COUNT(*) AS interactions,
{% endif %}
  MIN(rating) AS lowest,
  MAX(rating) AS highest,
{% if with_time %}
  CAST(MIN({% if few %}earliest{% else %}event_time{% endif %}) AS STRING) AS earliest,
  CAST(MAX({% if few %}latest{% else %}event_time{% endif %}) AS STRING) AS latest
{% else %}
  '' AS earliest,
  '' AS latest
{% endif %}
{% if few %}
FROM (
  SELECT
    rating,
{% if with_time %}
    MIN(event_time) AS earliest,
    MAX(event_time) AS latest,
{% endif %}
    COUNT(*) AS interactions
  FROM {{ interactions }}
  GROUP BY rating
)
{% else %}
FROM {{ interactions }}
{% endif %}
GROUP BY 1
