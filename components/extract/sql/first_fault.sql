-- The first of the numbered interactions that cannot be used for one of their columns.
SELECT MIN(source_row) AS source_row
FROM ({{ interactions }})
WHERE {% include "fault.sql" %}
