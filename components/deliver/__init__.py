"""Delivering: a model that deserves it goes where applications read it."""
