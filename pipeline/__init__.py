"""Pipeline definitions, the platforms they compile for, and the ``wals`` command."""
