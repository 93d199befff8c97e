-- The Google Analytics 4 export (events_*): events with one name; an event parameter holds the item. Of repeated
-- keys the first counts.
SELECT
  {{ user }} AS user_id,
{% if not count_without_user %}
  (
    SELECT COALESCE(p.value.string_value, CAST(p.value.int_value AS STRING))
    FROM UNNEST(event_params) AS p WITH OFFSET AS position
    WHERE p.key = @item_key
    ORDER BY position
    LIMIT 1
  ) AS item_id,
{% if event_rating == "engagement" %}
  COALESCE(
    (
      SELECT p.value.int_value
      FROM UNNEST(event_params) AS p WITH OFFSET AS position
      WHERE p.key = 'engagement_time_msec'
      ORDER BY position
      LIMIT 1
    ),
    0
  ) AS thousandths,
{% else %}
  1000 AS thousandths,
{% endif %}
{% endif %}
  TIMESTAMP_MICROS(event_timestamp) AS event_time
FROM {% include "source.sql" %}
{% include "rows.sql" %}
  AND event_name = @event_name
