"""What is compiled: pipelines, their parameters, and where their steps run. No client of any platform."""
