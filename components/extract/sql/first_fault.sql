-- The first of the numbered interactions in which a column is unusable.
SELECT MIN(source_row) AS source_row
FROM ({{ interactions }})
WHERE {% include "fault.sql" %}
