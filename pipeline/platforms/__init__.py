"""The platforms that run pipelines, behind one protocol."""
