{# The rows to read: as of one moment, of the right days, and those that the user wants. #}
{{ source }}
{% if snapshot %}
  FOR SYSTEM_TIME AS OF CAST(@snapshot AS TIMESTAMP)
{% endif %}
