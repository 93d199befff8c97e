-- Every interaction with dense indices and the part of the split that it belongs to: 0 is for training. Where
-- the indices are looked up outside (not joined), the ids stand for them, and hashed parts are left out.
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
