"""Pipeline definitions, the platforms that run them, and the ``wals`` command."""
