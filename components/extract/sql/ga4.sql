-- The Google Analytics 4 export (events_*): events with one name; an event parameter holds the item.
SELECT
  {{ user }} AS user_id,
  (
    SELECT COALESCE(p.value.string_value, CAST(p.value.int_value AS STRING))
    FROM UNNEST(event_params) AS p
    WHERE p.key = @item_key
  ) AS item_id,
{% if event_rating == "engagement" %}
  COALESCE(
    (SELECT p.value.int_value FROM UNNEST(event_params) AS p WHERE p.key = 'engagement_time_msec'), 0
  ) AS thousandths,
{% else %}
  1000 AS thousandths,
{% endif %}
  TIMESTAMP_MICROS(event_timestamp) AS event_time
FROM {% include "source.sql" %}
{% include "rows.sql" %}
  AND event_name = @event_name
