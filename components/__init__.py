"""The steps of the pipeline, one package each. Nothing here knows how they are connected."""
