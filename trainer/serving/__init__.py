"""Serving: the TensorFlow graph and its export as a SavedModel."""
