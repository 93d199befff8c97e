"""The probe: what a step can and cannot do where it really runs, before the first run on a new project."""
