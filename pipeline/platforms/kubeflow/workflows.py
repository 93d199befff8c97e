"""The Argo Workflow of a run, as the server's older API reports it."""

import json
from typing import Any, Self

import pydantic
from pydantic import Field

from components.answers import field_problem
from pipeline.platforms.kubeflow.client import ForeignError

_PODS = "Pod"


class _Part(pydantic.BaseModel):
    """The part of a workflow that `components.workflow` reads; other fields are ignored."""

    model_config = pydantic.ConfigDict(strict=True)


class _Metadata(_Part):
    name: str = ""
    namespace: str = ""
    annotations: dict[str, str] = Field(default={})


class _Node(_Part):
    id: str
    name: str
    type: str
    templateName: str = ""  # noqa: N815 - the workflow's names
    displayName: str = ""  # noqa: N815
    boundaryID: str = ""  # noqa: N815
    phase: str = ""
    message: str = ""

    @pydantic.model_validator(mode="after")
    def _of_a_template(self) -> Self:
        if self.type == _PODS and not self.templateName:
            raise ValueError("templateName is missing")
        return self


class _Status(_Part):
    nodes: dict[str, _Node] | None = None


class _Workflow(_Part):
    metadata: _Metadata = _Metadata()
    status: _Status = _Status()

    @pydantic.model_validator(mode="after")
    def _named(self) -> Self:
        if self.status.nodes and not self.metadata.name:
            raise ValueError("metadata.name is missing")
        return self


class _Runtime(_Part):
    workflow_manifest: str | None = None


class _Run(_Part):
    pipeline_runtime: _Runtime | None = None


def workflow_in(answer: str) -> dict[str, Any]:
    """Return the Argo Workflow in the answer about a run; empty before the server has created it.

    Raises:
        ForeignError: the answer, or the workflow in it, is not as it is documented.
    """
    try:
        runtime = _Run.model_validate_json(answer).pipeline_runtime
        manifest = (runtime.workflow_manifest if runtime else "") or "{}"
        _Workflow.model_validate_json(manifest)
    except pydantic.ValidationError as error:
        raise ForeignError(field_problem(error)) from error
    workflow: dict[str, Any] = json.loads(manifest)
    return workflow
