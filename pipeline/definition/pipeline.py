"""A pipeline as a record: its name, its steps and parameters, and how it is built."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pipeline.definition.parameters import Models, Parameter, parameter_problems, parameters_of
from pipeline.definition.targets import Target
from trainer.errors import InputError

if TYPE_CHECKING:
    from kfp.dsl.graph_component import GraphComponent

ImageOf = Callable[[str], str]
"""Returns the container image of a step."""


@dataclass(frozen=True)
class Pipeline:
    """A pipeline.

    Attributes:
        name: name of the compiled pipeline.
        summary: summary in one sentence.
        steps: names of its tasks, in display order.
        models: options models of its steps, which declare its parameters.
        build: function that builds the pipeline with given images for a target.
        side_by_side: parameter that sets how many tasks of a step run at the same time, by step; the others
            have one.
        unused: options models of other pipelines, whose parameters an environment's file may give too.
    """

    name: str
    summary: str
    steps: Sequence[str]
    models: Models
    build: Callable[["Pipeline", ImageOf, Target], "GraphComponent"]
    side_by_side: Mapping[str, str] = field(default_factory=dict)
    unused: Models = ()

    @cached_property
    def parameters(self) -> Mapping[str, Parameter]:
        """The parameters by name."""
        return parameters_of(self.models)

    @cached_property
    def unused_parameters(self) -> frozenset[str]:
        """Names of parameters that a file may give, although this pipeline does not have them."""
        return frozenset(parameters_of(self.unused)) - frozenset(self.parameters)

    def problems(self, values: Mapping[str, Any]) -> list[InputError]:
        """Return every problem that a step would find in the parameters, before any step runs.

        Args:
            values: values of all parameters, by name.
        """
        return list(parameter_problems(self.models, values))
