"""Examples: a notebook, a script, and a pipeline of one's own."""
