-- How many rows cannot be used, by column, of interactions that stay in the warehouse.
SELECT
  COUNT(*) AS interactions,
  {% if with_time %}COUNTIF(event_time IS NULL){% else %}0{% endif %} AS event_time,
  COUNTIF(user_id IS NULL OR TRIM(CAST(user_id AS STRING)) = '') AS user_id,
  COUNTIF(item_id IS NULL OR TRIM(CAST(item_id AS STRING)) = '') AS item_id,
  COUNTIF(rating IS NULL OR IS_NAN(rating) OR ABS(rating) > 3.4028234663852886e38) AS rating
FROM {{ interactions }}
