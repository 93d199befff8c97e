WHERE TRUE
{% if row_filter %}
  AND {{ row_filter }}
{% endif %}
{% if stored_as %}
  -- The window again, of the column as it is stored, so that BigQuery reads only its partitions.
{% if window_start %}
  AND ({{ timestamp }} >= CAST(CAST(@window_start AS TIMESTAMP) AS {{ stored_as }}) OR {{ timestamp }} IS NULL)
{% endif %}
{% if window_end %}
  AND ({{ timestamp }} <= CAST(CAST(@window_end AS TIMESTAMP) AS {{ stored_as }}) OR {{ timestamp }} IS NULL)
{% endif %}
{% endif %}
{% if ingested and window_start %}
  -- Rows that have just been streamed in are in no partition yet.
  AND (_PARTITIONTIME >= CAST(@first_partition AS TIMESTAMP) OR _PARTITIONTIME IS NULL)
{% endif %}
{% if day_suffix %}
  -- Whole days only: a wildcard also matches tables of the current day, whose events the day's final table repeats.
  AND REGEXP_CONTAINS(_TABLE_SUFFIX, @day_suffix)
  AND _TABLE_SUFFIX >= @first_suffix
  AND _TABLE_SUFFIX <= @last_suffix
{% endif %}
