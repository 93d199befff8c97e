-- Whether a column is unusable in any of the interactions.
SELECT COALESCE(LOGICAL_OR({% include "fault.sql" %}), FALSE) AS any_fault
FROM {{ interactions }}
