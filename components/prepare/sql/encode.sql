-- Every interaction with dense indices and its part of the split, where 0 is training. If the indices are looked
-- up outside of SQL (not joined), the ids are returned instead, and parts that depend on hashes are omitted.
SELECT
{% if joined %}
  users.position AS `row`,
  items.position AS `column`,
{% else %}
  filtered.user_id AS `row`,
  filtered.item_id AS `column`,
{% endif %}
{% if half_life %}
  filtered.rating * POW(0.5, (@newest - UNIX_MICROS(filtered.event_time)) / @half_life) AS value,
{% else %}
  filtered.rating AS value,
{% endif %}
{% if with_time %}
  UNIX_MICROS(filtered.event_time) AS time,
{% endif %}
{% if joined or split in ("last", "time") %}
{% include split + ".sql" %}
  AS part
{% endif %}
FROM {{ filtered }} AS filtered
{% if joined %}
JOIN {{ users }} AS users ON users.id = filtered.user_id
JOIN {{ items }} AS items ON items.id = filtered.item_id
{% endif %}
{% if split == "last" %}
LEFT JOIN {{ latest }} AS latest ON latest.user_id = filtered.user_id AND latest.item_id = filtered.item_id
{% endif %}
