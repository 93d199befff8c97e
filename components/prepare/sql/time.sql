  CASE WHEN UNIX_MICROS(kept.event_time) >= @cut THEN 1 ELSE 0 END
