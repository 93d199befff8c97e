-- The last items of each user who has more than holdout_last, by the time of the last interaction with them.
SELECT user_id, item_id
FROM (
  SELECT
    user_id,
    item_id,
    ROW_NUMBER() OVER (PARTITION BY user_id ORDER BY MAX(event_time) DESC, item_id DESC) AS age,
    COUNT(*) OVER (PARTITION BY user_id) AS items
  FROM {{ filtered }}
  GROUP BY user_id, item_id
)
WHERE age <= @holdout_last AND items > @holdout_last
