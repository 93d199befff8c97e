-- The number of unusable rows by column, for interactions that stay in BigQuery.
SELECT
  COUNT(*) AS interactions,
{% if with_time %}
  {% set field = "event_time" %}
  COUNTIF({% include "fault.sql" %}) AS event_time,
{% else %}
  0 AS event_time,
{% endif %}
{% set field = "user_id" %}
  COUNTIF({% include "fault.sql" %}) AS user_id,
{% set field = "item_id" %}
  COUNTIF({% include "fault.sql" %}) AS item_id,
{% set field = "rating" %}
  COUNTIF({% include "fault.sql" %}) AS rating
FROM {{ interactions }}
