"""Tables and progress of runs, for people."""
