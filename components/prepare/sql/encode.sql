-- Every interaction with dense indices and its part of the split, where 0 is training. If the indices are looked
-- up outside of SQL (not joined), the ids are returned instead, and parts that depend on hashes are omitted.
SELECT
{% if joined %}
  users.position AS `row`,
  items.position AS `column`,
{% else %}
  kept.user_id AS `row`,
  kept.item_id AS `column`,
{% endif %}
{% if half_life %}
  kept.rating * POW(0.5, (@newest - UNIX_MICROS(kept.event_time)) / @half_life) AS value,
{% else %}
  kept.rating AS value,
{% endif %}
{% if with_time %}
  UNIX_MICROS(kept.event_time) AS time,
{% endif %}
{% if joined or split in ("last", "time") %}
{% include split + ".sql" %}
  AS part
{% endif %}
FROM {{ kept }} AS kept
{% if joined %}
JOIN {{ users }} AS users ON users.id = kept.user_id
JOIN {{ items }} AS items ON items.id = kept.item_id
{% endif %}
{% if split == "last" %}
LEFT JOIN {{ latest }} AS latest ON latest.user_id = kept.user_id AND latest.item_id = kept.item_id
{% endif %}
