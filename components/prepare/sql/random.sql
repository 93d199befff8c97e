  -- Carter & Wegman (1979), h(x) = (a x + b) mod p, keyed by both ids: pairwise independent between
  -- interactions, and independent of where and in which order it is computed.
  CASE WHEN {% include "pair_hash.sql" %} < @holdout_threshold THEN 1 ELSE 0 END
