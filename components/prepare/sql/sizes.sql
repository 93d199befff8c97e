-- How many ids of a column have how many interactions.
SELECT interactions, COUNT(*) AS ids
FROM (SELECT COUNT(*) AS interactions FROM {{ interactions }} GROUP BY {{ column }})
GROUP BY 1
