-- The distinct pairs, without users who have more items than the maximum.
WITH pairs AS (
  SELECT DISTINCT user_id, item_id FROM {{ interactions }}
)
SELECT * FROM pairs
{% if maximum %}
WHERE user_id NOT IN (SELECT user_id FROM pairs GROUP BY 1 HAVING COUNT(*) > @maximum)
{% endif %}
