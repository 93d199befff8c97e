-- The number of ids of a column by their number of interactions.
SELECT interactions, COUNT(*) AS ids
FROM (SELECT COUNT(*) AS interactions FROM {{ interactions }} GROUP BY {{ column }})
GROUP BY 1
