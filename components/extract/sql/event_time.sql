{% if timestamp_type == "INT64" %}
  -- A number since 1970 tells its unit by its size: seconds end and milliseconds begin at 1e11 (the year
  -- 5138, or 1973), milliseconds end and microseconds begin at 1e14, and these end and nanoseconds begin at
  -- 1e17. The smallest INT64 has no ABS.
  TIMESTAMP_MICROS(
    CASE
      WHEN {{ timestamp }} > -100000000000 AND {{ timestamp }} < 100000000000 THEN {{ timestamp }} * 1000000
      WHEN {{ timestamp }} > -100000000000000 AND {{ timestamp }} < 100000000000000 THEN {{ timestamp }} * 1000
      WHEN {{ timestamp }} > -100000000000000000 AND {{ timestamp }} < 100000000000000000 THEN {{ timestamp }}
      ELSE DIV({{ timestamp }}, 1000)
    END
  )
{% elif timestamp_type == "STRING" %}
  SAFE_CAST({{ timestamp }} AS TIMESTAMP)
{% else %}
  CAST({{ timestamp }} AS TIMESTAMP)
{% endif %}
