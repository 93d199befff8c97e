  -- Liang et al. (2018), section 4.1: users are held out whole. A part of each one's history (2) folds the user
  -- in, and the rest (1) is to be predicted.
  CASE
    WHEN users.hash_factor >= @holdout_threshold THEN 0
    WHEN {% include "pair_hash.sql" %} < @target_threshold THEN 1
    ELSE 2
  END
