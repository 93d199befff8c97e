-- The number of interactions of each id of a column.
SELECT {{ column }} AS id, COUNT(*) AS interactions
FROM {{ filtered }}
GROUP BY 1
