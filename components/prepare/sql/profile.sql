-- Ratings by size, in bins that never change: eight for each doubling of 1 + |rating|. With the days.
SELECT
  CAST(FLOOR(8 * LN(1 + ABS(rating)) / LN(2) + 1e-9) AS INT64) * CASE WHEN rating < 0 THEN -1 ELSE 1 END AS bin,
  COUNT(*) AS interactions,
  MIN(rating) AS lowest,
  MAX(rating) AS highest,
{% if with_time %}
  CAST(MIN(event_time) AS STRING) AS earliest,
  CAST(MAX(event_time) AS STRING) AS latest
{% else %}
  '' AS earliest,
  '' AS latest
{% endif %}
FROM {{ kept }}
GROUP BY 1
