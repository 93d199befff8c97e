-- Shared by all kinds of source: the window of time, and the sums of single events. A rating without a readable
-- time is kept, so that the step can refuse it: it may or may not be in the window.
WITH source_rows AS (
{% include kind %}
)
{% if kind == "ratings.sql" %}
SELECT *
{% else %}
-- Thousandths are integers, whose sum does not depend on their order.
SELECT user_id, item_id, SUM(thousandths) / 1000 AS rating, MAX(event_time) AS event_time
{% endif %}
FROM source_rows
WHERE TRUE
{% if window_start %}
  AND (event_time >= CAST(@window_start AS TIMESTAMP){% if kind == "ratings.sql" %} OR event_time IS NULL{% endif %})
{% endif %}
{% if window_end %}
  AND (event_time < CAST(@window_end AS TIMESTAMP){% if kind == "ratings.sql" %} OR event_time IS NULL{% endif %})
{% endif %}
{% if kind != "ratings.sql" %}
  AND item_id IS NOT NULL
GROUP BY user_id, item_id
{% endif %}
{% if ordered %}
ORDER BY user_id, item_id, rating{% if timestamp or kind != "ratings.sql" %}, event_time{% endif %}

{% endif %}
