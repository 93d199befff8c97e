-- How many interactions each id of a column has.
SELECT {{ column }} AS id, COUNT(*) AS interactions
FROM {{ kept }}
GROUP BY 1
