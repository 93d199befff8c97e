"""The steps of the pipeline, a package each; nothing here knows how they are wired together."""
