"""The artifacts that steps share: their schemas, and how they are laid out on disk."""
