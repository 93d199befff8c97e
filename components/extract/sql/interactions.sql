-- Shared by all kinds of source: the window of time, and the sums of single events. A rating without a readable
-- time is kept, so that the step can refuse it: it may or may not be in the window. Events without an item (such as
-- views of a home page) are left out, and so are those without a user (such as without consent), which are counted.
WITH source_rows AS (
{% include kind %}
)
{% if kind == "ratings.sql" %}
SELECT *
{% elif count_without_user %}
SELECT COUNT(*) AS events
{% else %}
-- Thousandths are integers, whose sum does not depend on their order.
SELECT user_id, item_id, SUM(thousandths) / 1000 AS rating, MAX(event_time) AS event_time
{% endif %}
FROM source_rows
WHERE TRUE
{% if window_start %}
  AND (event_time >= CAST(@window_start AS TIMESTAMP){% if kind == "ratings.sql" %} OR event_time IS NULL{% endif %})
{% endif %}
{% if window_end %}
  AND (event_time < CAST(@window_end AS TIMESTAMP){% if kind == "ratings.sql" %} OR event_time IS NULL{% endif %})
{% endif %}
{% if kind != "ratings.sql" %}
  {% set field = "user_id" %}
  AND {% if not count_without_user %}NOT {% endif %}({% include "fault.sql" %})
{% endif %}
{% if kind != "ratings.sql" and not count_without_user %}
  {% set field = "item_id" %}
  AND NOT ({% include "fault.sql" %})
GROUP BY user_id, item_id
{% endif %}
{% if ordered and not count_without_user %}
ORDER BY user_id, item_id, rating{% if timestamp or kind != "ratings.sql" %}, event_time{% endif %}

{% endif %}
