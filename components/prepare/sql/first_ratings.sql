-- The number of distinct ratings among the first rows.
SELECT COUNT(DISTINCT rating) AS ratings FROM (SELECT rating FROM {{ interactions }} LIMIT 100000)
