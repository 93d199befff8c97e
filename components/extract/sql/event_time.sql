{# The time of a rating; for INT64, its microseconds since 1970. "readable_time.sql" makes a time of it. #}
{% if timestamp_type == "INT64" %}
  -- The size of a number since 1970 determines its unit: below 1e11 (the year 5138 in seconds, 1973 in
  -- milliseconds) it is seconds, below 1e14 milliseconds, below 1e17 microseconds, and else nanoseconds. The
  -- smallest INT64 has no ABS.
  CASE
    WHEN {{ timestamp }} > -100000000000 AND {{ timestamp }} < 100000000000 THEN {{ timestamp }} * 1000000
    WHEN {{ timestamp }} > -100000000000000 AND {{ timestamp }} < 100000000000000 THEN {{ timestamp }} * 1000
    WHEN {{ timestamp }} > -100000000000000000 AND {{ timestamp }} < 100000000000000000 THEN {{ timestamp }}
    ELSE DIV({{ timestamp }}, 1000)
  END
{% elif timestamp_type == "STRING" %}
  -- ISO 8601, or BigQuery's own text of a time. Left to themselves, the engines read different texts: one of them
  -- also "24:00:00", "epoch" and offsets beyond 14 hours, the other no time without seconds or with nanoseconds.
  SAFE_CAST(
    CASE
      WHEN REGEXP_CONTAINS(
        {{ timestamp }},
        r'^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[T ](?:[01]?[0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?(?:Z| UTC|[+-](?:(?:0[0-9]|1[0-3])(?::?[0-5][0-9])?|14(?::?00)?))?)?$'
      ) THEN {{ timestamp }}
      WHEN REGEXP_CONTAINS(
        {{ timestamp }},
        r'^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}[T ](?:[01]?[0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9]\.[0-9]{7,})?(?:Z| UTC|[+-](?:(?:0[0-9]|1[0-3])(?::?[0-5][0-9])?|14(?::?00)?))?$'
      ) THEN REGEXP_REPLACE(
        REGEXP_REPLACE({{ timestamp }}, r'^([^:]+:[0-9]{2})([^:]|$)', r'\1:00\2'), r'(\.[0-9]{6})[0-9]+', r'\1'
      )
    END AS TIMESTAMP
  )
{% else %}
  CAST({{ timestamp }} AS TIMESTAMP)
{% endif %}
