-- Numbers the counted ids in order, and gives each two random numbers below the prime 2^31 - 1 that depend only
-- on the seed and the id. So that no single worker has to sort all ids, they are numbered within ranges, and the
-- ranges are then concatenated.
WITH ranged AS (
  SELECT
    *,
    TO_HEX(MD5(CONCAT(@seed, @kind, CAST(id AS STRING)))) AS digest,
{% if is_text %}
    SUBSTR(id, 1, @prefix_length) AS id_range
{% else %}
    DIV(id, @range_width) AS id_range
{% endif %}
  FROM {{ counted }}
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
  MOD(CAST(CONCAT('0x', SUBSTR(digest, 1, 8)) AS INT64), 2147483647) AS hash_factor,
  MOD(CAST(CONCAT('0x', SUBSTR(digest, 9, 8)) AS INT64), 2147483647) AS hash_term
FROM ranged
JOIN sized USING (id_range)
