SELECT * FROM {{ interactions }}
WHERE user_id IN (SELECT id FROM {{ active_users }}) AND item_id IN (SELECT id FROM {{ active_items }})
