{# All tables change together, or none does. -#}
BEGIN TRANSACTION;
SELECT IF(
  IFNULL((SELECT version FROM {{ deliveries }} ORDER BY delivered DESC LIMIT 1), '') = @served,
  'unchanged',
  ERROR('another delivery came first, and this one has changed nothing; run the step again')
);
{% for table in tables %}
TRUNCATE TABLE {{ table.target }};
{% for shard in table.shards %}
INSERT INTO {{ table.target }} ({{ table.columns }}, delivery_date)
SELECT {{ table.selected }}, CURRENT_DATE('UTC') FROM {{ shard }};
{% endfor %}
{% endfor %}
INSERT INTO {{ deliveries }} (version, delivered) VALUES (@version, CURRENT_TIMESTAMP());
COMMIT TRANSACTION;
