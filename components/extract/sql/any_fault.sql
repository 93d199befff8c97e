-- Whether any of the interactions cannot be used for one of their columns.
SELECT COALESCE(LOGICAL_OR({% include "fault.sql" %}), FALSE) AS any_fault
FROM {{ interactions }}
