"""The steps with their artifacts in a mounted bucket, as on Vertex AI."""

from collections import Counter
from pathlib import Path
from typing import Any

from components.evaluate.options import EvaluateOptions
from components.evaluate.step import evaluate
from components.extract.options import ExtractOptions
from components.extract.step import extract
from components.prepare.options import PrepareOptions
from components.prepare.step import prepare
from components.publish.options import PublishOptions
from components.publish.step import publish
from components.train.options import RefitOptions, TrainStepOptions
from components.train.refit import refit
from components.train.step import train
from tests.conftest import MountedBucket

OPTIONS = TrainStepOptions(latent_factors="4", num_iters=2, solver="cg")


def test_each_step_writes_and_reads_a_file_once(mounted_bucket: MountedBucket, ratings_csv: Path) -> None:
    root = mounted_bucket.folder
    names = (
        *("interactions", "catalogue", "training", "holdout", "vocabulary", "profile", "model"),
        *("evaluation", "refitted", "recommendations", "similar_items", "embeddings"),
    )
    folder = {name: root / name for name in names}
    report = root / "report.html"
    items = root.parent / "items.csv"
    items.write_text("item_id,title\n1,One\n", "utf-8")
    source = ExtractOptions(source=str(ratings_csv), items=str(items), blocked_items=str(items))
    prepared = {
        name: folder[name] for name in ("interactions", "training", "holdout", "vocabulary", "profile")
    }
    scored = {name: folder[name] for name in ("model", "training", "holdout", "catalogue", "profile")}
    trained = {"matrix": folder["training"], "vocabulary": folder["vocabulary"], "model": folder["model"]}
    steps: list[tuple[Any, Any, dict[str, Path], set[str]]] = [
        (extract, source, {name: folder[name] for name in ("interactions", "catalogue")}, set()),
        (prepare, PrepareOptions(), {**prepared, "profile_report": report}, {"interactions"}),
        (train, OPTIONS, trained, {"training", "vocabulary"}),
        (
            evaluate,
            EvaluateOptions(),
            {**scored, "evaluation": folder["evaluation"], "report": report},
            {"model", "training", "holdout", "catalogue", "profile"},
        ),
        (
            refit,
            RefitOptions(refit_iters=1),
            {
                **{name: folder[name] for name in ("training", "holdout", "vocabulary")},
                "judged": folder["model"],
                "model": folder["refitted"],
                "saved_model": root / "saved",
            },
            {"model", "training", "holdout", "vocabulary"},
        ),
        (
            publish,
            PublishOptions(),
            {
                "model": folder["refitted"],
                **{name: folder[name] for name in ("catalogue", *names[-3:])},
            },
            {"refitted", "catalogue"},
        ),
    ]
    mounted_bucket.operations()
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
