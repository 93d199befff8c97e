"""`wals check`: every problem at once; and what each command refuses in an environment."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from google.cloud import bigquery

from pipeline.definition.targets import VERTEX
from pipeline.definition.vertex_machines import region_problems, vertex_facts
from pipeline.platforms.vertex.quotas import quota_metric
from tests.pipeline.conftest import Wals, service_account
from tests.pipeline.kubeflow_server import KubeflowServer
from tests.pipeline.serving import serving, task_of
from tests.pipeline.vertex_server import BUCKET, PROJECT, REGION, RUN_LABEL, VertexServer

ROOT = Path(__file__).parents[3]


@pytest.fixture
def vertex_google(vertex: VertexServer, monkeypatch: pytest.MonkeyPatch) -> VertexServer:
    """The local server, which also stands in for Cloud Storage and BigQuery."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", vertex.url)
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", vertex.url)
    return vertex


@pytest.mark.parametrize("name", ["dev", "prod"])
def test_the_examples_have_no_problems(wals: Wals, name: str) -> None:
    result = wals("check", "--config", ROOT / "config" / f"{name}.yaml", "--offline")
    assert result.exit_code == 0, result.stderr
    first, hint = result.stdout.splitlines()
    assert first == "No problems found"
    assert hint.endswith(f"`wals probe --config {ROOT}/config/{name}.yaml`")


def test_nothing_is_reported_if_everything_exists(
    wals: Wals, vertex_config: Path, vertex_google: VertexServer
) -> None:
    result = wals("check", "--config", vertex_config)
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"GET /bigquery/v2/projects/{PROJECT}/datasets/shop/tables/ratings" in vertex_google.calls


@pytest.mark.parametrize(
    ("columns", "options", "found", "problems"),
    [
        (
            ("buyer_email", "sku", "quantity", "ordered_at"),
            (),
            "user=buyer_email item=sku rating=quantity time=ordered_at",
            [],
        ),
        (("user", "sku"), (), "user=user item=sku rating=1 (no column) time=none (no column)", []),
        (("user", "sku"), ("feedback=explicit",), "", ["rating_column '': .* --rating-column NAME"]),
        (("who", "what"), (), "", ["user_column, item_column '': none of the columns who, what has .*"]),
        (("who", "sku"), ("user_column=by",), "", ["user_column 'by': is not among the columns who, sku.*"]),
    ],
)
def test_the_columns_of_a_table_are_shown_or_what_is_missing(
    wals: Wals,
    vertex_config: Path,
    warehouse: Any,
    columns: tuple[str, ...],
    options: tuple[str, ...],
    found: str,
    problems: list[str],
) -> None:
    source = warehouse.load("orders", pa.table({name: pa.array([1]) for name in columns}))
    flags = [text for option in (f"source={source}", *options) for text in ("-p", option)]
    result = wals("check", "--config", vertex_config, *flags, "--json")
    assert result.json["columns"] == found
    about_columns = [problem for problem in result.json["problems"] if "column" in problem.split(" ")[0]]
    assert len(about_columns) == len(problems)
    assert all(map(re.fullmatch, problems, about_columns))


def test_every_problem_is_reported_at_once_in_a_line_each(wals: Wals, tmp_path: Path) -> None:
    config = tmp_path / "bad.yaml"
    config.write_text(
        """
platform: {target: vertex, project: Test Project, region: europe, pipeline_rot: gs://b/r}
parameters: {latent_factors: many, regularisation: 1.0}
""",
        "utf-8",
    )
    result = wals("check", "--config", config, "--cron", "0 0 21 * * *", "--time-zone", "Mars/Base")
    assert result.exit_code == 2
    for named in ("Test Project", "'europe'", "pipeline_root", "6 fields", "Mars/Base"):
        assert named in result.stderr
    assert "platform.pipeline_rot 'gs://b/r': is unknown; did you mean pipeline_root?" in result.stderr
    assert result.stdout == f"{len(result.stderr.splitlines())} problems found\n"


@pytest.mark.parametrize(
    ("pipeline", "bad"),
    [
        (
            "wals-train",
            {
                "data_type": "nonsense",
                "window_start": "2026-02-30",
                "event_rating": "z",
                "maximum_bytes_billed": "-1",
                "staging_dataset": "bad",
                "split": "foo",
                "duplicates": "x",
                "holdout_fraction": "7",
                "min_user_interactions": "-3",
                "on_drift": "y",
                "max_psi": "-1",
                "source": "nonsense://x",
                "snapshot": "yesterday",
            },
        ),
        ("wals-train", {"latent_factors": "0", "num_iters": "0", "alpha": "-1", "top_k": "0", "eval_k": "0"}),
        ("wals-tune", {"width": "0", "max_latent_factors": "4", "solver": "magic", "source": ""}),
        ("wals-train", {"source": "bq://only-a-project", "query": "SELECT 1"}),
        ("wals-train", {"latent_factors": "0", "num_iters": "ten"}),
    ],
)
def test_every_step_reports_everything_it_would_refuse(
    wals: Wals, vertex_config: Path, pipeline: str, bad: dict[str, str]
) -> None:
    given = [argument for name, value in bad.items() for argument in ("-p", f"{name}={value}")]
    result = wals("check", "--config", vertex_config, "--offline", "--pipeline", pipeline, *given, "--json")
    assert result.exit_code == 2
    reported = [problem.split(" ")[0] for problem in result.json["problems"]]
    assert sorted(reported) == sorted(bad)


def test_parameters_are_checked_even_if_the_platform_is_invalid(wals: Wals, tmp_path: Path) -> None:
    config = tmp_path / "bad.toml"
    config.write_text(
        "[platform]\ntarget = 'vertex'\nproject = 'no project'\n"
        "[parameters]\nsource = 'a.csv'\nlatent_factors = 0\ntop_k = 'ten'\n",
        "utf-8",
    )
    result = wals("check", "--config", config)
    assert result.exit_code == 2
    reported = {line.split(" ")[0] for line in result.stderr.splitlines()}
    assert reported == {
        *("platform.project", "platform.region", "platform.pipeline_root"),
        *("latent_factors", "top_k"),
    }


def test_every_invalid_setting_is_reported(wals: Wals, vertex_config: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("train: {cpu: lots, retries: -1}\nprepare: {memry: 8G}\nfly: {cpu: 1}\n", "utf-8")
    with vertex_config.open("a", encoding="utf-8") as config:
        config.write(f"settings: {settings}\n")
    result = wals("check", "--config", vertex_config, "--offline", "--json")
    reported = {problem.split(" ")[0] for problem in result.json["problems"]}
    assert reported == {"train.cpu", "train.retries", "prepare.memry", "settings"}


def test_every_parameter_is_checked_against_the_signature(wals: Wals, vertex_config: Path) -> None:
    arguments = (
        "-p",
        "num_iters=ten",
        "-p",
        "regularisation=1",
        "-p",
        "has_header=perhaps",
        "-p",
        "alpha=nan",
    )
    text = vertex_config.read_text("utf-8").replace("latent_factors: 16", "latent_factors: '16.5'")
    vertex_config.write_text(text.replace("source:", "sauce:"), "utf-8")
    result = wals("check", "--config", vertex_config, "--offline", *arguments, "--json")
    assert result.exit_code == 2
    reported = {problem.split(" ")[0]: problem for problem in result.json["problems"]}
    assert set(reported) == {
        *("num_iters", "regularisation", "has_header", "alpha", "latent_factors", "sauce", "source")
    }
    assert "is neither auto nor an integer" in reported["latent_factors"]
    assert "did you mean regularization?" in reported["regularisation"]
    assert "is missing" in reported["source"]


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (
            "yaml",
            """
parameters:
  {source: 3, latent_factors: many, num_iters: 2.5, alpha: true, has_header: 'yes', regularisation: 1.0}
regularization: 1.0
platform:
  {target: vertex, project: test-project, region: europe-west1, pipeline_root: 'gs://bucket/r', regon: x}
""",
        ),
        (
            "toml",
            """
regularization = 1.0
[parameters]
source = 3
latent_factors = "many"
num_iters = 2.5
alpha = true
has_header = "yes"
regularisation = 1.0
[platform]
target = "vertex"
project = "test-project"
region = "europe-west1"
pipeline_root = "gs://bucket/r"
regon = "x"
""",
        ),
    ],
)
def test_wrong_types_and_unknown_names_of_a_file_are_reported(
    wals: Wals, tmp_path: Path, suffix: str, content: str
) -> None:
    config = tmp_path / f"config.{suffix}"
    config.write_text(content, "utf-8")
    result = wals("check", "--config", config, "--offline", "--json")
    assert result.exit_code == 2
    reported = {problem.split(" ")[0]: problem for problem in result.json["problems"]}
    assert "is not text" in reported.pop("source")
    assert "'many': is neither auto nor an integer" in reported.pop("latent_factors")
    assert "2.5: is not an integer" in reported.pop("num_iters")
    assert "True: is neither auto nor a number" in reported.pop("alpha")
    assert "'yes': is not true or false" in reported.pop("has_header")
    assert "is unknown; did you mean regularization?" in reported.pop("regularisation")
    assert "is unknown; did you mean region?" in reported.pop("platform.regon")
    assert "is unknown" in reported.pop("regularization")
    assert reported == {}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("-p", "latent_factors=0"), "latent_factors"),
        (("-p", "latent_factors"), "has no ="),
        (("-p", "top_k=0"), "top_k"),
        (("--name", "Monday"), "Monday"),
        (("--name", "a" * 128), "at most 127"),
        (("--region", "europe"), "region"),
        (("--pipeline-root", "bucket"), "pipeline_root"),
        (("--images", "none.json"), "none.json"),
        (("--config", "none.yaml"), "none.yaml"),
    ],
)
def test_submit_refuses_what_check_reports(
    wals: Wals, vertex_config: Path, vertex: VertexServer, arguments: tuple[str, ...], named: str
) -> None:
    for command in (("check", "--offline"), ("submit",)):
        result = wals(*command, "--config", vertex_config, *arguments)
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1, result.stderr
        assert named in result.stderr
    assert vertex.jobs == {}


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("platform: [", "YAML"),
        ("- platform", "mapping"),
        ("platform: {target: azure}", "azure"),
        ("parameters: {}", "target"),
        ("platform: {target: kubeflow}", "host"),
        ("platform: {target: kubeflow, host: localhost}", "localhost"),
        ("{platform: {target: kubeflow, host: 'http://h'}, image: {}}", "image"),
    ],
)
def test_a_config_that_cannot_be_used_is_one_line(
    wals: Wals, tmp_path: Path, content: str, named: str
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(content, "utf-8")
    result = wals("runs", "--config", config)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert named in result.stderr


def test_a_bucket_and_a_table_are_checked(
    wals: Wals, vertex_config: Path, vertex_google: VertexServer
) -> None:
    result = wals(
        *("check", "--config", vertex_config, "--pipeline-root", "gs://no-such-bucket/runs"),
        *("-p", f"source=bq://{PROJECT}.shop.nothing"),
    )
    assert result.exit_code == 2
    assert "gs://no-such-bucket/runs" in result.stderr
    assert "shop.nothing" in result.stderr
    assert result.stdout == "2 problems found\n"


def test_a_bucket_that_is_closed_names_the_rights(
    wals: Wals, vertex_config: Path, vertex_google: VertexServer
) -> None:
    vertex_google.bucket_rights = ["storage.objects.get"]
    result = wals("check", "--config", vertex_config)
    assert result.exit_code == 2
    assert "storage.objects.create" in result.stderr
    assert "storage.objects.get," not in result.stderr


JOB = "{accelerator: NVIDIA_L4, accelerators: 1, custom_job: {machine_type: g2-standard-8"
T4, L4 = (
    f"aiplatform.googleapis.com/custom_model_training_{name}_gpus" for name in ("nvidia_t4", "nvidia_l4")
)


@pytest.mark.parametrize(
    ("arguments", "settings", "metric", "limit", "reported"),
    [
        ((), "", T4, 1, ""),
        ((), "", T4, 0, "train.accelerator 'NVIDIA_TESLA_T4': has a quota of 0 in europe-west1, "),
        ((), "", T4, -1, ""),
        # Four trials run at the same time, and each has a GPU.
        (("--pipeline", "wals-tune"), "", T4, 4, ""),
        (("--pipeline", "wals-tune"), "", T4, 3, "quota of 3 in europe-west1, below the 4 used at once; "),
        (("--pipeline", "wals-tune", "-p", "width=2"), "", T4, 3, ""),
        (
            ("--pipeline", "wals-tune", "-p", "width=8"),
            "",
            T4,
            7,
            f"request more of {T4} or lower width\n",
        ),
        (
            (),
            "{accelerator: NVIDIA_L4, accelerators: 2}",
            L4,
            1,
            "'NVIDIA_L4': has a quota of 1 in europe-west1",
        ),
        ((), "{accelerator: '', accelerators: 0}", T4, 0, ""),
        (
            (),
            f"{JOB}, replicas: 3}}}}",
            L4,
            2,
            "below the 3 used at once; ",
        ),
        (
            (),
            f"{JOB}, strategy: SPOT}}}}",
            L4.replace("_nvidia", "_preemptible_nvidia"),
            0,
            "custom_model_training_preemptible_nvidia_l4_gpus",
        ),
    ],
)
def test_quotas_below_what_the_steps_use_are_reported(
    wals: Wals,
    vertex_config: Path,
    vertex_google: VertexServer,
    tmp_path: Path,
    arguments: tuple[str, ...],
    settings: str,
    metric: str,
    limit: int,
    reported: str,
) -> None:
    (tmp_path / "settings.yaml").write_text(f"train: {settings}" if settings else "{}", "utf-8")
    vertex_google.quotas[metric] = limit
    result = wals("check", "--config", vertex_config, "--settings", tmp_path / "settings.yaml", *arguments)
    assert result.exit_code == (2 if reported else 0), result.stderr
    assert reported in result.stderr
    assert result.stderr.count("\n") == bool(reported)
    assert "could not" not in result.stdout


@pytest.mark.parametrize(
    ("status", "reported"), [(403, "serviceusage.serviceUsageConsumer"), (404, "404"), (503, "503")]
)
def test_a_quota_that_cannot_be_read_is_only_noted(
    wals: Wals, vertex_config: Path, vertex_google: VertexServer, status: int, reported: str
) -> None:
    vertex_google.quotas_refuse = status
    result = wals("check", "--config", vertex_config)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("No problems found; could not check everything: the quota ")
    assert reported in result.stdout
    assert len(result.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("accelerator", "name"),
    [
        ("NVIDIA_TESLA_V100", "nvidia_v100"),
        ("NVIDIA_TESLA_A100", "nvidia_a100"),
        ("NVIDIA_A100_80GB", "nvidia_a100_80gb"),
        ("NVIDIA_H100_80GB", "nvidia_h100"),
        ("NVIDIA_H100_MEGA_80GB", "nvidia_h100_mega"),
        ("NVIDIA_H200_141GB", "nvidia_h200"),
    ],
)
def test_quotas_have_names_of_their_own(accelerator: str, name: str) -> None:
    metric = quota_metric(accelerator, preemptible=False)
    assert metric == f"aiplatform.googleapis.com/custom_model_training_{name}_gpus"


def test_a_local_file_cannot_be_reached_from_vertex(
    wals: Wals, vertex_config: Path, vertex_google: VertexServer
) -> None:
    result = wals("check", "--config", vertex_config, "-p", "source=ratings.csv")
    assert result.exit_code == 2
    assert "source 'ratings.csv': cannot be reached from Vertex AI" in result.stderr


def test_the_sources_of_items_are_checked_like_the_source(
    wals: Wals, vertex_config: Path, vertex_google: VertexServer, bucket: Any, warehouse: Any
) -> None:
    bucket.blob("ratings.csv").upload_from_string("userId,movieId,rating\n")
    warehouse.client.create_table(f"{warehouse.dataset}.available")
    source = ("-p", "source=gs://test-bucket/ratings.csv")
    given = {
        "items": "items.csv",
        "blocked_items": "gs://test-bucket/blocked.csv",
        "available_items": f"bq://{warehouse.dataset}.nothing",
    }
    arguments = [text for name, place in given.items() for text in ("-p", f"{name}={place}")]
    found = wals("check", "--config", vertex_config, *source, *arguments, "--json").json["problems"]
    problems = [problem for problem in found if not problem.startswith("pipeline_root")]
    for problem, (name, place), expected in zip(
        problems,
        given.items(),
        ("cannot be reached from Vertex AI", "has no objects", "does not exist"),
        strict=True,
    ):
        assert problem.startswith(f"{name} '{place}': {expected}")
    there = ("-p", f"available_items=bq://{warehouse.dataset}.available")
    found = wals("check", "--config", vertex_config, *source, *there, "--json").json["problems"]
    assert all(problem.startswith("pipeline_root") for problem in found)


def test_a_query_is_tried_without_running_it(wals: Wals, vertex_config: Path, warehouse: Any) -> None:
    table = f"{warehouse.dataset}.ratings"
    warehouse.client.query_and_wait(f"CREATE TABLE `{table}` AS SELECT 1 AS user, 2 AS item, 3 AS rating")
    arguments = ("check", "--config", vertex_config, "-p", f"source=bq://{warehouse.project}")
    arguments += ("-p", "data_type=query", "--json")
    jobs = len(list(warehouse.client.list_jobs()))
    good = wals(*arguments, "-p", f"query=SELECT user, item, rating FROM `{table}`")
    assert good.json["problems"] == []
    bad = wals(*arguments, "-p", f"query=SELECT user, item, stars FROM `{table}`")
    assert bad.exit_code == 2
    (problem,) = bad.json["problems"]
    assert problem.startswith("query ")
    assert "stars" in problem
    ran = [job for job in list(warehouse.client.list_jobs())[:-jobs] if not job.dry_run]
    assert ran == []


def test_a_wildcard_must_match_a_table(wals: Wals, vertex_config: Path, warehouse: Any) -> None:
    warehouse.client.create_table(f"{warehouse.dataset}.events_20260101")
    arguments = ("check", "--config", vertex_config, "-p", "data_type=ga4", "-p", "item_key=item", "--json")
    source = f"bq://{warehouse.dataset}"
    assert wals(*arguments, "-p", f"source={source}.events_*").json["problems"] == []
    (problem,) = wals(*arguments, "-p", f"source={source}.ga_sessions_*").json["problems"]
    assert "ga_sessions_*': matches no table" in problem
    nowhere = f"source=bq://{warehouse.project}.nowhere.events_*"
    (problem,) = wals(*arguments, "-p", nowhere).json["problems"]
    assert "does not exist" in problem


def test_the_staging_dataset_is_checked(wals: Wals, vertex_config: Path, warehouse: Any) -> None:
    table = f"{warehouse.dataset}.ratings"
    warehouse.client.create_table(table)
    arguments = ("check", "--config", vertex_config, "-p", f"source=bq://{table}", "--json")
    assert wals(*arguments, "-p", f"staging_dataset={warehouse.dataset}").json["problems"] == []
    (problem,) = wals(*arguments, "-p", f"staging_dataset={warehouse.project}.nowhere").json["problems"]
    assert problem.startswith(f"staging_dataset '{warehouse.project}.nowhere': does not exist")


@pytest.mark.parametrize("name", ["ratings", "rat*"])
def test_a_staging_dataset_elsewhere_is_reported(
    wals: Wals, vertex_config: Path, warehouse: Any, name: str
) -> None:
    warehouse.client.create_table(f"{warehouse.dataset}.ratings")
    elsewhere = bigquery.Dataset(f"{warehouse.dataset}_eu")
    elsewhere.location = "EU"
    warehouse.client.create_dataset(elsewhere)
    try:
        parameters = (f"source=bq://{warehouse.dataset}.{name}", f"staging_dataset={warehouse.dataset}_eu")
        flags = ("-p", parameters[0], "-p", parameters[1], "--json")
        result = wals("check", "--config", vertex_config, *flags)
    finally:
        warehouse.client.delete_dataset(elsewhere)
    (problem,) = result.json["problems"]
    assert problem.startswith("staging_dataset ")
    assert "is in EU, and the source in US" in problem


@pytest.mark.parametrize(
    ("source", "reported"),
    [
        ("gs://test-bucket/ratings.csv", ""),
        ("gs://test-bucket/folder", ""),
        ("gs://test-bucket/folder/", ""),
        ("gs://test-bucket/folder/*.csv", ""),
        ("gs://test-bucket", ""),
        ("gs://test-bucket/rating", "has no objects"),
        ("gs://test-bucket/*.parquet", "has no objects"),
        ("gs://no-such-bucket/ratings.csv", "does not exist"),
    ],
)
def test_objects_are_checked(
    wals: Wals, vertex_config: Path, bucket: Any, source: str, reported: str
) -> None:
    for name in ("ratings.csv", "folder/a.csv"):
        bucket.blob(name).upload_from_string("userId,movieId,rating\n")
    result = wals("check", "--config", vertex_config, "-p", f"source={source}", "--json")
    problems = [problem for problem in result.json["problems"] if problem.startswith("source ")]
    assert len(problems) == bool(reported)
    assert all(reported in problem for problem in problems)


def test_an_older_server_is_a_problem(wals: Wals, kubeflow_config: Path, kubeflow: KubeflowServer) -> None:
    kubeflow.version = "2.0.0"
    result = wals("check", "--config", kubeflow_config, "-p", "source=ratings.csv")
    assert result.exit_code == 2
    assert "is Kubeflow Pipelines 2.0.0, older than" in result.stderr
    assert result.stdout == "1 problem found\n"


def test_what_could_not_be_checked_is_reported(wals: Wals, kubeflow_config: Path) -> None:
    arguments = ("check", "--config", kubeflow_config, "--host", "http://127.0.0.1:9")
    result = wals(*arguments, "-p", "source=ratings.csv")
    assert result.exit_code == 0
    assert result.stdout.startswith("No problems found; could not check everything: http://127.0.0.1:9")


@pytest.mark.parametrize(("retries", "noted"), [(0, False), (2, True)])
def test_retries_on_kubeflow_depend_on_the_server(
    wals: Wals, kubeflow_config: Path, tmp_path: Path, retries: int, noted: bool
) -> None:
    (tmp_path / "settings.yaml").write_text(f"train: {{retries: {retries}}}", "utf-8")
    arguments = ("check", "--config", kubeflow_config, "--offline", "--settings", f"{tmp_path}/settings.yaml")
    result = wals(*arguments)
    assert result.exit_code == 0, result.stderr
    assert ("whether the server retries steps that fail" in result.stdout) == noted


def test_the_data_of_a_kubeflow_run_are_checked_if_there_are_credentials(
    wals: Wals, kubeflow_config: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    result = wals("check", "--config", kubeflow_config)
    assert result.exit_code == 0
    assert "could not check everything: no Google Cloud credentials" in result.stdout
    token = [("POST", "/token", lambda call: {"access_token": "token", "expires_in": 3600})]
    with serving(token, lambda status, message: message, []) as url:
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(service_account(tmp_path, f"{url}/token")))
        result = wals("check", "--config", kubeflow_config, "-p", "source=gs://test-bucket/ratings.csv")
    assert result.exit_code == 2
    assert "source 'gs://test-bucket/ratings.csv': has no objects" in result.stderr


def test_digests_replace_tags(wals: Wals, vertex_config: Path, tmp_path: Path) -> None:
    steps = ("extract", "prepare", "train", "evaluate", "publish")
    pinned = {step: f"eu/wals/{step}@sha256:{'0' * 64}" for step in steps}
    images = tmp_path / "images.json"
    content = {
        "schema": "wals.images",
        "schema_version": 1,
        "images": pinned,
        "accelerators": {"train": "gpu"},
    }
    images.write_text(json.dumps(content), "utf-8")
    request = wals("submit", "--config", vertex_config, "--images", images, "--dry-run", "--full").request
    executors = request["pipelineJob"]["pipelineSpec"]["deploymentSpec"]["executors"]
    assert executors["exec-train"]["container"]["image"] == pinned["train"]
    mixed = wals("submit", "--config", vertex_config, "--images", images, "--tag", "9f3", "--dry-run")
    assert mixed.exit_code == 2
    assert "cannot be combined with a prefix or a tag" in mixed.stderr


@pytest.mark.parametrize(
    ("command", "region", "settings", "reported"),
    [
        (("check", "--offline"), "europe-central2", "L4", "does not offer NVIDIA_L4; give one of "),
        (("submit",), "europe-central2", "L4", "does not offer NVIDIA_L4; give one of "),
        (("submit", "--dry-run"), "europe-north1", "", "does not offer NVIDIA_TESLA_T4; give one of "),
        (
            ("schedule", "set", "x", "--cron", "0 1 * * *", "--yes"),
            "us-west3",
            "L4",
            "does not offer NVIDIA_L4",
        ),
        (("upload",), "me-central1", "", "does not offer NVIDIA_TESLA_T4"),
        (("upload",), "europe-west99", "", "is not a region of Vertex AI; did you mean europe-west9"),
        # The training pipeline has no trials, which keep the default's accelerator.
        (
            ("check", "--offline", "--pipeline", "wals-tune"),
            "me-central2",
            "L4",
            "does not offer NVIDIA_TESLA_T4",
        ),
    ],
)
def test_a_region_without_the_accelerator_is_refused(
    wals: Wals,
    vertex_config: Path,
    vertex: VertexServer,
    tmp_path: Path,
    command: tuple[str, ...],
    region: str,
    settings: str,
    reported: str,
) -> None:
    arguments = [*command, "--config", vertex_config, "--region", region]
    if settings:
        path = tmp_path / "settings.yaml"
        path.write_text(f"train: {{accelerator: NVIDIA_{settings}, accelerators: 1}}\n", "utf-8")
        arguments += ["--settings", path]
    result = wals(*arguments)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert f"region '{region}': {reported}" in result.stderr
    assert not any(call.startswith("POST") for call in vertex.calls)


def test_the_regions_are_those_of_googles_client_that_run_custom_jobs() -> None:
    from google.cloud.aiplatform.constants.base import SUPPORTED_REGIONS  # slow to import

    without_training = {"europe-north2", "us-east7", "us-west8"}
    assert SUPPORTED_REGIONS - {"global"} - without_training == vertex_facts().regions
    for accelerator in VERTEX.accelerators:
        assert not region_problems("us-central1", [accelerator])


def test_everything_can_be_given_by_flag(wals: Wals, vertex: VertexServer, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("train: {retries: 3}\n", "utf-8")
    key = f"projects/p/locations/{REGION}/keyRings/r/cryptoKeys/k"
    flags = [
        *("--target", "vertex", "--project", PROJECT, "--region", REGION, "--endpoint", vertex.url),
        *("--pipeline-root", f"gs://{BUCKET}/runs", "--image-prefix", "eu/wals", "--settings", settings),
        *("--network", "projects/1/global/networks/inner", "--encryption-key", key),
        *("--label", "team=shop", "--label", "cost=42", "-p", "source=gs://b/ratings.csv"),
    ]
    result = wals("submit", *flags, "--name", "monday")
    assert result.exit_code == 0, result.stderr
    (job,) = vertex.jobs.values()
    assert job["network"] == "projects/1/global/networks/inner"
    assert job["encryptionSpec"] == {"kmsKeyName": key}
    # Vertex AI adds one of its own.
    assert job["labels"].pop(RUN_LABEL)
    assert job["labels"] == {"team": "shop", "cost": "42"}
    assert task_of(job["pipelineSpec"], "train")["retryPolicy"]["maxRetryCount"] == 3
    assert wals("schedule", "set", "nightly", *flags, "--cron", "0 1 * * *", "--yes").exit_code == 0
    (schedule,) = vertex.schedules.values()
    scheduled = schedule["createPipelineJobRequest"]["pipelineJob"]
    assert scheduled["labels"].items() >= job["labels"].items()
    assert set(scheduled["labels"]) - set(job["labels"]) == {"wals-schedule"}
    assert scheduled["network"] == job["network"]
    assert scheduled["encryptionSpec"] == job["encryptionSpec"]
    # The same again is the same schedule.
    assert "Unchanged" in wals("schedule", "set", "nightly", *flags, "--cron", "0 1 * * *", "--yes").stdout


def test_labels_of_flags_join_those_of_the_file(wals: Wals, vertex_config: Path) -> None:
    text = vertex_config.read_text("utf-8")
    vertex_config.write_text(
        text.replace("images:", "  labels: {team: shop, cost: low}\nimages:", 1), "utf-8"
    )
    request = wals("submit", "--config", vertex_config, "--label", "cost=high", "--dry-run", "--full").request
    assert request["pipelineJob"]["labels"] == {"team": "shop", "cost": "high"}
    result = wals("check", "--config", vertex_config, "--offline", "--label", "Team=x", "--label", "a=B C")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 2


def test_a_time_zone_other_than_the_servers_is_reported(wals: Wals, kubeflow_config: Path) -> None:
    arguments = ("check", "--config", kubeflow_config, "--offline", "--cron", "0 21 * * *")
    assert wals(*arguments, "--time-zone", "Europe/Berlin").exit_code == 0
    result = wals(*arguments, "--time-zone", "Asia/Tokyo")
    assert result.exit_code == 2
    assert "'Asia/Tokyo': is not the server's" in result.stderr


def test_a_kubeflow_servers_time_zone_can_be_given_by_flag(wals: Wals, kubeflow: KubeflowServer) -> None:
    flags = [
        *("--target", "kubeflow", "--host", kubeflow.url, "--server-time-zone", "Asia/Tokyo"),
        *("--image-prefix", "wals", "-p", "source=gs://b/ratings.csv", "--cron", "0 1 * * *", "--yes"),
    ]
    assert wals("schedule", "set", "nightly", *flags).exit_code == 2
    result = wals("schedule", "set", "nightly", *flags, "--time-zone", "Asia/Tokyo")
    assert result.exit_code == 0, result.stderr
    (recurring,) = kubeflow.recurring.values()
    assert recurring["trigger"]["cron_schedule"]["cron"] == "0 0 1 * * *"
