"""Serving: a TensorFlow graph of a model and its export as a SavedModel."""
