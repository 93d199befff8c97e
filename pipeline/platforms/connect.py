"""Choosing the backend for an environment's platform."""

from pipeline.platforms.backend import Backend
from pipeline.platforms.environments import Platform, Vertex


def connect(platform: Platform) -> Backend:
    """Return the backend of a platform; no request is sent yet."""
    # The clients are slow to import, and a command needs one of them.
    if isinstance(platform, Vertex):
        from pipeline.platforms.vertex.backend import VertexBackend

        return VertexBackend(platform)
    from pipeline.platforms.kubeflow.backend import KubeflowBackend

    return KubeflowBackend(platform)
