-- Ranges of ids, in order. The first begins at the lowest id, and the others at every @spacing-th id of a random
-- sample, so that they are of similar size however the ids are distributed.
WITH sampled AS (
  SELECT id, ROW_NUMBER() OVER (ORDER BY id) AS number
  FROM {{ counted }}
  WHERE hash_term < @sampled
),
starts AS (
  SELECT id AS lowest FROM sampled WHERE MOD(number, @spacing) = 0
  UNION DISTINCT
  SELECT MIN(id) AS lowest FROM {{ counted }}
)
SELECT
  ROW_NUMBER() OVER (ORDER BY lowest) AS id_range,
  lowest,
  LEAD(lowest) OVER (ORDER BY lowest) AS beyond
FROM starts
