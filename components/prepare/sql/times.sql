-- Interactions per day (in UTC, numbered from 1970).
SELECT
  DIV(UNIX_MICROS(event_time), 86400000000) AS day,
  COUNT(*) AS interactions,
  MAX(UNIX_MICROS(event_time)) AS newest
FROM {{ filtered }}
GROUP BY 1
