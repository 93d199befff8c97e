{# The condition that an interaction has no usable {{ field }}. White space is Unicode's; text that begins with
   any other ASCII character is not blank, and needs no regular expression. #}
{% if field == "event_time" %}
event_time IS NULL
{% elif field == "user_id" %}
user_id IS NULL
OR CASE
  WHEN CAST(user_id AS STRING) BETWEEN '!' AND '~' THEN FALSE
  ELSE NOT REGEXP_CONTAINS(CAST(user_id AS STRING), r'[^\s\x{0B}\x{1C}-\x{1F}\x{85}\p{Z}]')
END
{% elif field == "item_id" %}
item_id IS NULL
OR CASE
  WHEN CAST(item_id AS STRING) BETWEEN '!' AND '~' THEN FALSE
  ELSE NOT REGEXP_CONTAINS(CAST(item_id AS STRING), r'[^\s\x{0B}\x{1C}-\x{1F}\x{85}\p{Z}]')
END
{% else %}
rating IS NULL OR IS_NAN(rating) OR ABS(rating) > 3.4028234663852886e38
{% endif %}
