"""What several platforms need of Google Cloud."""
