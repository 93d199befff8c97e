{# The table to read, as of one moment if it has snapshots. #}
{{ source }}
{% if snapshot %}
  FOR SYSTEM_TIME AS OF CAST(@snapshot AS TIMESTAMP)
{% endif %}
