"""Training on several machines: each solves its share of the rows, and all gather the results."""
