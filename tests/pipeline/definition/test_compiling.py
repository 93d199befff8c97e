"""The compiled specs: what people upload."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from components.images import image
from pipeline.definition.compiling import compile_pipeline
from pipeline.definition.pipelines import PIPELINES
from pipeline.definition.targets import TARGETS
from pipeline.platforms.tasks import step_names
from tests.pipeline.conftest import in_thread

ROOT = Path(__file__).parents[3]
GOLDEN = Path(__file__).parent / "golden"
SHARED = {
    **dict.fromkeys(("suggest", "trial", "choose", "report"), "tune"),
    "refit": "train",
    "reject": "evaluate",
    "deliver": "publish",
    "notify": "publish",
}
"""The image of the steps that do not have one of their own."""
SPECS = [(pipeline, target) for pipeline in PIPELINES for target in TARGETS]


def compile_py(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "compile.py", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    result = compile_py("--output-dir", str(folder))
    assert result.returncode == 0, result.stderr
    for pipeline, target in SPECS:
        assert str(folder / f"{pipeline}.{target}.yaml") in result.stdout
    assert result.stdout.count("upload to") == len(SPECS)
    return folder


@pytest.mark.parametrize(("pipeline", "target"), SPECS)
def test_the_spec_is_the_reviewed_one(build: Path, pipeline: str, target: str) -> None:
    """A change is a visible diff; `make golden` renews the files."""
    name = f"{pipeline}.{target}.yaml"
    assert (build / name).read_bytes() == (GOLDEN / name).read_bytes()


@pytest.mark.parametrize(("pipeline", "target"), SPECS)
def test_the_spec_is_one_document_of_the_published_schema(build: Path, pipeline: str, target: str) -> None:
    (document,) = yaml.load_all((build / f"{pipeline}.{target}.yaml").read_text("utf-8"), yaml.CSafeLoader)
    spec = json_format.ParseDict(document, pipeline_spec_pb2.PipelineSpec())
    assert spec.pipeline_info.name == pipeline
    assert set(PIPELINES[pipeline].steps) == set(step_names(document))


@pytest.mark.parametrize(("pipeline", "target"), SPECS)
def test_each_step_has_an_image_of_its_own_and_installs_nothing_at_run_time(
    build: Path, pipeline: str, target: str
) -> None:
    spec = yaml.load((build / f"{pipeline}.{target}.yaml").read_text("utf-8"), yaml.CSafeLoader)
    executors = spec["deploymentSpec"]["executors"]
    images = {
        name.removeprefix("exec-"): executor["container"]["image"] for name, executor in executors.items()
    }
    # kfp numbers a component's further uses.
    steps = {name: re.sub(r"-\d$", "", name) for name in images}
    named = {name: image.rpartition("/")[2].partition(":")[0] for name, image in images.items()}
    assert named == {name: SHARED.get(step, step) for name, step in steps.items()}
    assert not any("pip install" in part for e in executors.values() for part in e["container"]["command"])


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_every_parameter_has_a_type_a_default_and_a_description(pipeline: str) -> None:
    built = in_thread(PIPELINES[pipeline].build, PIPELINES[pipeline], image, TARGETS["vertex"])
    assert list(built.component_spec.inputs) == list(PIPELINES[pipeline].parameters)
    for name, spec in built.component_spec.inputs.items():
        assert spec.type in {"String", "Integer", "Float", "Boolean"}, name
        assert spec.description, f"{name} is not described"
        assert spec.default is not None or not spec.optional, f"{name} defaults to None"


def test_compiling_twice_gives_the_same_bytes(build: Path, tmp_path: Path) -> None:
    for pipeline, target in SPECS:
        again = in_thread(compile_pipeline, PIPELINES[pipeline], TARGETS[target], tmp_path)
        assert again.read_bytes() == (build / again.name).read_bytes()


def test_prefix_and_tag_name_the_images(tmp_path: Path) -> None:
    result = compile_py(
        *(
            "--target",
            "vertex",
            "--pipeline",
            "wals-train",
            "--image-prefix",
            "eu.example.dev/project/wals",
            "--tag",
            "9f3",
            "--json",
        ),
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert [path.name for path in (tmp_path / "build").iterdir()] == ["wals-train.vertex.yaml"]
    spec = {"pipeline": "wals-train", "target": "vertex", "spec": "build/wals-train.vertex.yaml"}
    assert json.loads(result.stdout)["specs"] == [spec]
    assert (
        "image: eu.example.dev/project/wals/train:9f3"
        in (tmp_path / "build/wals-train.vertex.yaml").read_text()
    )


def test_accelerators_are_named_as_each_platform_requires() -> None:
    vertex = (GOLDEN / "wals-train.vertex.yaml").read_text("utf-8")
    assert "resourceType: NVIDIA_TESLA_T4" in vertex
    assert "nvidia.com/gpu" not in vertex
    assert "accelerator" not in (GOLDEN / "wals-train.kubeflow.yaml").read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--target", "azure"), "azure"),
        (("--pipeline", "wals-brain"), "wals-brain"),
        (("--colour", "red"), "--colour"),
        (("--output-dir", "/proc/none"), "/proc/none"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(arguments: tuple[str, ...], named: str) -> None:
    result = compile_py(*arguments)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("compile.py: error: ")
    assert named in result.stderr
