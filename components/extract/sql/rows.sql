WHERE TRUE
{% if row_filter %}
  AND {{ row_filter }}
{% endif %}
{% if first_suffix %}
  AND _TABLE_SUFFIX >= @first_suffix
{% endif %}
{% if last_suffix %}
  AND _TABLE_SUFFIX <= @last_suffix
{% endif %}
