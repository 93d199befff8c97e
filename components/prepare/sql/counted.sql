-- The number of interactions of each id of a column, and two random numbers below the prime 2^31 - 1 that depend
-- only on the seed and the id.
WITH counted AS (
  SELECT {{ column }} AS id, COUNT(*) AS interactions
  FROM {{ filtered }}
  GROUP BY 1
),
hashed AS (
  SELECT *, TO_HEX(MD5(CONCAT(@seed, @kind, CAST(id AS STRING)))) AS digest FROM counted
)
SELECT
  id,
  interactions,
  MOD(CAST(CONCAT('0x', SUBSTR(digest, 1, 8)) AS INT64), 2147483647) AS hash_factor,
  MOD(CAST(CONCAT('0x', SUBSTR(digest, 9, 8)) AS INT64), 2147483647) AS hash_term
FROM hashed
