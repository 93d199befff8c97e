"""``python -m trainer.task``: train on one file, as a stand-alone job.

The flags, their defaults and the output files are those of the TensorFlow 1 job that this one replaces;
docs/trainer-task.md describes them all.
"""

import logging
import sys
from collections.abc import Sequence

from trainer.errors import WalsError, failure_of_machine
from trainer.job.flags import make_parser
from trainer.job.run import run
from trainer.terminal import visible
from trainer.texts import check_texts

_INTERRUPTED = 130  # 128 and the number of SIGINT, as shells have it


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job that the command line describes and return its exit code."""
    given = make_parser().parse_args(arguments)
    _configure_logging(verbose=given.verbose_logging)
    try:
        check_texts("argument", sys.argv[1:] if arguments is None else arguments)
        run(given)
    except WalsError as error:
        return _fail(error)
    except KeyboardInterrupt:
        return _fail(WalsError("interrupted"), _INTERRUPTED)
    except (OSError, MemoryError) as error:
        if not (failure := failure_of_machine(error)):
            raise
        return _fail(failure)
    return 0


def _fail(error: WalsError, exit_code: int | None = None) -> int:
    print(f"trainer.task: error: {visible(str(error))}", file=sys.stderr)
    return error.exit_code if exit_code is None else exit_code


def _configure_logging(*, verbose: bool) -> None:
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=level)
    logging.getLogger("trainer").setLevel(logging.INFO)
    # Otherwise it logs the path of each SavedModel, regardless of the root logger's level.
    logging.getLogger("tensorflow").setLevel(level)


if __name__ == "__main__":
    sys.exit(main())
