"""What is compiled: pipelines, their parameters, and where their steps run. Uses no platform's client."""
