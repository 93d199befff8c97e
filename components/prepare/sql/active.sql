-- Ids of one side with enough ids of the other side that are still in.
SELECT {{ column }} AS id
FROM {{ pairs }}
{% if other %}
WHERE {{ other_column }} IN (SELECT id FROM {{ other }})
{% endif %}
GROUP BY 1
HAVING COUNT(*) >= @minimum
