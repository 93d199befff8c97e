"""Open-source Kubeflow Pipelines."""
