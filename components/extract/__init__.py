"""Extraction, the first step: reads interactions from files or BigQuery."""
