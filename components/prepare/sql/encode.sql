-- Every interaction with dense indices and the part of the split that it belongs to: 0 is for training.
SELECT
  users.position AS user_index,
  items.position AS item_index,
{% if half_life %}
  kept.rating * POW(0.5, (@newest - UNIX_MICROS(kept.event_time)) / @half_life) AS rating,
{% else %}
  kept.rating AS rating,
{% endif %}
{% if with_time %}
  UNIX_MICROS(kept.event_time) AS time,
{% endif %}
{% include split %}
  AS part
FROM {{ kept }} AS kept
JOIN {{ users }} AS users ON users.id = kept.user_id
JOIN {{ items }} AS items ON items.id = kept.item_id
{% if split == "last.sql" %}
LEFT JOIN {{ latest }} AS latest ON latest.user_id = kept.user_id AND latest.item_id = kept.item_id
{% endif %}
