  CASE WHEN UNIX_MICROS(filtered.event_time) >= @cut THEN 1 ELSE 0 END
