WHERE TRUE
{% if row_filter %}
  AND {{ row_filter }}
{% endif %}
{% if day_suffix %}
  -- Whole days only: a wildcard also matches tables of the current day, whose events the day's final table repeats.
  AND REGEXP_CONTAINS(_TABLE_SUFFIX, @day_suffix)
{% endif %}
{% if first_suffix %}
  AND _TABLE_SUFFIX >= @first_suffix
{% endif %}
{% if last_suffix %}
  AND _TABLE_SUFFIX <= @last_suffix
{% endif %}
