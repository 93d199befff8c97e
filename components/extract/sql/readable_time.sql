{# The time of a rating if it is in the years 1 to 9999, like all times in BigQuery; else NULL. BigQuery's own times
   stay as they are: it prunes partitions by a column, but not by an expression. #}
{% if timestamp_type == "INT64" %}
  CASE WHEN event_time >= -62135596800000000 THEN TIMESTAMP_MICROS(event_time) END
{% elif timestamp_type == "STRING" or not in_bigquery %}
  CASE
    WHEN event_time BETWEEN TIMESTAMP '0001-01-01 00:00:00+00' AND TIMESTAMP '9999-12-31 23:59:59.999999+00'
      THEN event_time
  END
{% else %}
  event_time
{% endif %}
