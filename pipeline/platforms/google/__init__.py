"""Google Cloud code that several platforms share."""
