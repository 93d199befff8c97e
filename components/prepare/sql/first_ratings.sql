-- How many of the ratings that are read first differ.
SELECT COUNT(DISTINCT rating) AS ratings FROM (SELECT rating FROM {{ interactions }} LIMIT 100000)
