"""Running compiled pipelines on this machine, through ``kfp.local``."""
