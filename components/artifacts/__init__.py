"""Artifacts that several steps share: their schemas and their layout on disk."""
