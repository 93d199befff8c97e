"""What the interactions look like, and whether they have drifted."""
