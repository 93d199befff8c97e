-- Numbers the counted ids in order. So that no single worker has to sort all ids, they are numbered within ranges,
-- and the ranges are then concatenated.
WITH ranged AS (
  SELECT counted.*, ranges.id_range
  FROM {{ counted }} AS counted
  JOIN {{ ranges }} AS ranges
    ON counted.id >= ranges.lowest AND (counted.id < ranges.beyond OR ranges.beyond IS NULL)
),
sized AS (
  SELECT id_range, CAST(SUM(COUNT(*)) OVER (ORDER BY id_range) AS INT64) - COUNT(*) AS ids_before
  FROM ranged
  GROUP BY id_range
)
SELECT
  id,
  interactions,
  ids_before + ROW_NUMBER() OVER (PARTITION BY id_range ORDER BY id) - 1 AS position,
  hash_factor,
  hash_term
FROM ranged
JOIN sized USING (id_range)
