-- Google Analytics 360 sessions (ga_sessions_*): the seconds from a page hit to the visit's next one; a custom
-- dimension of the hit holds the item (of repeated indices the first). The time spent on a visit's last page is
-- unknown.
SELECT
  user_id,
{% if not count_without_user %}
  item_id,
  next_hit - hit AS thousandths,
{% endif %}
  TIMESTAMP_MICROS(visit_start * 1000000 + hit * 1000) AS event_time
FROM (
  SELECT
    {{ user }} AS user_id,
{% if not count_without_user %}
    (
      SELECT d.value
      FROM UNNEST(h.customDimensions) AS d WITH OFFSET AS position
      WHERE d.index = CAST(@item_key AS INT64)
      ORDER BY position
      LIMIT 1
    ) AS item_id,
{% endif %}
    visitStartTime AS visit_start,
    h.time AS hit,
    LEAD(h.time) OVER (PARTITION BY {{ user }}, visitId, visitStartTime ORDER BY h.hitNumber) AS next_hit
  FROM {% include "source.sql" %}, UNNEST(hits) AS h
  {% include "rows.sql" %}
    AND h.type = 'PAGE'
)
WHERE next_hit IS NOT NULL
