"""Options of the probe's steps, among those of the pipelines that it probes for."""

import pydantic

from components.extract.options import ExtractOptions
from components.train.options import TrainStepOptions
from trainer.options import Options, fields_of

ProbeOptions = pydantic.create_model(
    "ProbeOptions",
    __base__=Options,
    **fields_of(ExtractOptions, ("source", "staging_dataset")),
    **fields_of(TrainStepOptions, ("solver", "checkpoint_dir", "registry", "warm_start")),
)
"""Options of a step that does not extract: what decides which services and devices it uses."""
