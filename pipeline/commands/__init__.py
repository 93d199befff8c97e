"""The subcommands of ``wals``, one module each."""
