"""The steps with their artifacts in a mounted bucket, as on Vertex AI."""

from collections import Counter
from pathlib import Path
from typing import Any

from components.evaluate.step import evaluate
from components.extract.options import ExtractOptions
from components.extract.step import extract
from components.options import RankingOptions
from components.prepare.options import PrepareOptions
from components.prepare.step import prepare
from components.publish.options import PublishOptions
from components.publish.step import publish
from components.train.step import train
from tests.conftest import MountedBucket
from trainer.config import TrainConfig

CONFIG = TrainConfig(latent_factors=4, num_iters=2, solver="cg")


def test_each_step_writes_and_reads_a_file_once(mounted_bucket: MountedBucket, ratings_csv: Path) -> None:
    root = mounted_bucket.folder
    names = ("interactions", "training", "holdout", "vocabulary", "profile", "model", "recommendations")
    folder = {name: root / name for name in names}
    report = root / "report.html"
    source = ExtractOptions(source=str(ratings_csv))
    prepared = {
        name: folder[name] for name in ("interactions", "training", "holdout", "vocabulary", "profile")
    }
    scored = {name: folder[name] for name in ("model", "training", "holdout")}
    trained = {"matrix": folder["training"], "vocabulary": folder["vocabulary"], "model": folder["model"]}
    steps: list[tuple[Any, Any, dict[str, Path], set[str]]] = [
        (extract, source, {"interactions": folder["interactions"]}, set()),
        (prepare, PrepareOptions(), {**prepared, "profile_report": report}, {"interactions"}),
        (train, CONFIG, trained, {"training", "vocabulary"}),
        (evaluate, RankingOptions(), {**scored, "report": report}, {"model", "training", "holdout"}),
        (
            publish,
            PublishOptions(),
            {"model": folder["model"], "recommendations": folder["recommendations"]},
            {"model"},
        ),
    ]
    for step, options, paths, inputs in steps:
        step(options, **paths)
        operations = mounted_bucket.operations()
        assert not [operation for operation in operations if operation[0] in ("refused", "rename")]
        opened = Counter(path for name, path, *_ in operations if name == "open")
        assert {path.split("/")[1] for path in opened} == inputs, step.__name__
        assert max(opened.values(), default=1) == 1, (step.__name__, opened)
        read: Counter[str] = Counter()
        for name, path, *size in operations:
            if name == "read":
                read[path] += int(size[0])
        sizes = {path: (root / path[1:]).stat().st_size for path in read}
        assert all(read[path] <= sizes[path] for path in read), step.__name__
