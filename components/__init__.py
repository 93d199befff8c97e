"""The steps of the pipeline, one package each. They do not depend on how they are connected."""
