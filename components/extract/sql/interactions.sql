-- What every kind of source shares: the window of time, and summing what comes as single events.
WITH found AS (
{% include kind %}
)
{% if kind == "ratings.sql" %}
SELECT *
{% else %}
SELECT user_id, item_id, SUM(rating) AS rating, MAX(event_time) AS event_time
{% endif %}
FROM found
WHERE TRUE
{% if window_start %}
  AND event_time >= CAST(@window_start AS TIMESTAMP)
{% endif %}
{% if window_end %}
  AND event_time < CAST(@window_end AS TIMESTAMP)
{% endif %}
{% if kind != "ratings.sql" %}
  AND item_id IS NOT NULL
GROUP BY user_id, item_id
{% endif %}
