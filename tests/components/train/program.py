"""One machine of a Vertex AI custom job: ``program.py STEP ARGUMENTS``, with CLUSTER_SPEC in the environment.

STEP is ``train`` or ``refit``; ARGUMENTS is a JSON object of options and ``paths`` of artifacts. The step
prints its metadata.
"""

import json
import sys
from types import SimpleNamespace

from components.runtime import run_step
from components.train.options import RefitOptions, TrainStepOptions
from components.train.refit import assist_refit, refit
from components.train.step import assist_training, train

STEPS = {
    "train": (train, TrainStepOptions, assist_training),
    "refit": (refit, RefitOptions, assist_refit),
}

if __name__ == "__main__":
    step, options, assistant = STEPS[sys.argv[1]]
    arguments = json.loads(sys.argv[2])
    artifacts = {name: SimpleNamespace(path=path) for name, path in arguments.pop("paths").items()}
    print(json.dumps(run_step(step, options, {**arguments, **artifacts}, assistant=assistant)))
