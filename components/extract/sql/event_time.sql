{% if timestamp_type == "INT64" %}
  -- The size of a number since 1970 determines its unit: below 1e11 (the year 5138 in seconds, 1973 in
  -- milliseconds) it is seconds, below 1e14 milliseconds, below 1e17 microseconds, and else nanoseconds. The
  -- smallest INT64 has no ABS.
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
