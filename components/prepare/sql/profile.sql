-- Ratings by size, in fixed bins: eight for each doubling of 1 + |rating|; with the range of times in
-- microseconds, whose text would differ between engines. If there are
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
  UNIX_MICROS(MIN({% if few %}earliest{% else %}event_time{% endif %})) AS earliest,
  UNIX_MICROS(MAX({% if few %}latest{% else %}event_time{% endif %})) AS latest
{% else %}
  CAST(NULL AS INT64) AS earliest,
  CAST(NULL AS INT64) AS latest
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
