"""The first step: interactions out of files or a warehouse."""
