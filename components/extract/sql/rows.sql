WHERE TRUE
{% if row_filter %}
  AND {{ row_filter }}
{% endif %}
{% if day_suffix %}
  -- Days only: a wildcard also takes the tables of the running day, whose events come again with the day's own.
  AND REGEXP_CONTAINS(_TABLE_SUFFIX, @day_suffix)
{% endif %}
{% if first_suffix %}
  AND _TABLE_SUFFIX >= @first_suffix
{% endif %}
{% if last_suffix %}
  AND _TABLE_SUFFIX <= @last_suffix
{% endif %}
