-- Ids of one side with enough remaining ids of the other side.
SELECT {{ column }} AS id
FROM {{ pairs }}
{% if other %}
WHERE {{ other_column }} IN (SELECT id FROM {{ other }})
{% endif %}
GROUP BY 1
HAVING COUNT(*) >= @minimum
