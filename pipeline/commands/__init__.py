"""The subcommands of ``wals``, a module each."""
