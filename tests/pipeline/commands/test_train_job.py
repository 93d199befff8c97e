"""`wals train-job` and `wals tune --vertex-hyperparameter-job`."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.display import remote_run
from tests.pipeline.conftest import Wals
from tests.pipeline.vertex_server import PARENT, PROJECT, REGION, VertexServer
from trainer import extras
from trainer.job.flags import HYPERPARAMETER_METRIC_TAG, make_parser, options_of

DATA = ("--train-file", "gs://test-bucket/ratings.csv", "--data-type", "user_ratings")


@pytest.fixture(autouse=True)
def fast_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.display.remote_run._FIRST_POLL_SECONDS", 0.01)


def container(request: dict[str, Any]) -> dict[str, Any]:
    (pool,) = request["customJob"]["jobSpec"]["workerPoolSpecs"]
    spec: dict[str, Any] = pool["containerSpec"]
    return spec


def test_local_trains_here_into_a_folder_by_time(
    wals: Wals, ratings_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(extras, "tensorflow_is_installed", lambda: False)
    flags = ("--train-file", ratings_csv, "--data-type", "user_ratings", "--latent_factors", 3)
    result = wals("train-job", "local", *flags, "--num_iters=2")
    assert result.exit_code == 0, result.stderr
    assert "test RMSE = " in result.stdout
    (folder,) = (tmp_path / "runs").iterdir()
    assert f"Training into runs/{folder.name}" in result.stdout
    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    assert metrics["config"]["latent_factors"] == 3
    assert len(metrics["objective"]) == 2


def test_local_reports_a_failure_in_one_line_with_the_jobs_exit_code(wals: Wals, tmp_path: Path) -> None:
    result = wals("train-job", "local", "--job-dir", tmp_path, "--train-file", tmp_path / "none.csv")
    assert result.exit_code == 2
    assert "none.csv" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_a_custom_job_lives_from_submission_to_success(
    wals: Wals, vertex_config: Path, vertex: VertexServer
) -> None:
    flags = ("--machine-type", "g2-standard-8", "--accelerator", "NVIDIA_L4", "--accelerators", 1)
    passed_on = ("--latent_factors=16", "--feature_wt_exp", -1.5, "--use-optimized")
    result = wals("train-job", "train", "--config", vertex_config, *flags, "--wait", *DATA, *passed_on)
    assert result.exit_code == 0, result.stderr
    assert "succeeded" in result.stdout
    (job,) = vertex.training.values()
    assert f"Submitted {job['name'].removeprefix(PARENT + '/')}" in result.stdout
    (pool,) = job["jobSpec"]["workerPoolSpecs"]
    assert pool["machineSpec"] == {
        "machineType": "g2-standard-8",
        "acceleratorType": "NVIDIA_L4",
        "acceleratorCount": 1,
    }
    assert pool["containerSpec"]["imageUri"].startswith(f"{REGION}-docker.pkg.dev/{PROJECT}/wals/train:")
    job_dir, *others = pool["containerSpec"]["args"]
    assert job_dir.startswith("--job-dir=gs://test-bucket/runs/jobs/20")
    assert others == [*DATA, *map(str, passed_on)]
    assert job["jobSpec"]["serviceAccount"] == f"trainer@{PROJECT}.iam.gserviceaccount.com"


def test_a_custom_job_has_as_many_machines_as_the_train_steps(
    wals: Wals, vertex_config: Path, vertex: VertexServer, tmp_path: Path
) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("train: {custom_job: {machine_type: n1-standard-16, replicas: 4}}", "utf-8")
    arguments = ("train-job", "train", "--config", vertex_config, "--settings", settings, *DATA)
    summary = wals(*arguments, "--dry-run", "--json").json
    assert [step["replicas"] for step in summary["steps"]] == [4]
    assert wals(*arguments).exit_code == 0
    (job,) = vertex.training.values()
    first, others = job["jobSpec"]["workerPoolSpecs"]
    assert (first["replicaCount"], others["replicaCount"]) == ("1", "3")
    assert first["containerSpec"] == others["containerSpec"]
    assert first["machineSpec"] == others["machineSpec"]
    assert job["jobSpec"]["scheduling"]["restartJobOnWorkerRestart"] is True


def test_a_custom_job_that_fails_exits_1_and_says_why(
    wals: Wals, vertex_config: Path, vertex: VertexServer
) -> None:
    vertex.failing_training = True
    result = wals("train-job", "train", "--config", vertex_config, "--wait", *DATA)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "exited with a status of 2" in result.stderr


@pytest.mark.parametrize("kind", ["train", "tune"])
def test_a_job_is_shown_and_cancelled_by_its_id(wals: Wals, vertex_config: Path, kind: str) -> None:
    job = wals("train-job", kind, "--config", vertex_config, "--json", *DATA).json
    assert job["state"] == "running"
    assert wals("runs", job["id"], "--config", vertex_config, "--json").json["name"] == job["name"]
    assert wals("cancel", job["id"], "--config", vertex_config).exit_code == 0
    result = wals("runs", job["id"], "--config", vertex_config)
    assert result.exit_code == 1
    assert f"run {job['id']} cancelled" in result.stderr


def test_a_lost_network_says_how_to_follow_the_job_again(
    wals: Wals, vertex_config: Path, vertex: VertexServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_run, "_SILENCE_SECONDS", 0.1)
    vertex.refusals = [503] * 1000
    result = wals("train-job", "train", "--config", vertex_config, "--wait", *DATA)
    assert result.exit_code == 1
    (name,) = vertex.training
    command = f"runs {name.removeprefix(PARENT + '/')} --config {vertex_config} --wait"
    assert f"`wals {command}`" in result.stderr
    vertex.refusals = []
    assert wals(*command.split()).exit_code == 0


def test_the_dry_run_is_the_request_that_is_sent(
    wals: Wals, vertex_config: Path, vertex: VertexServer
) -> None:
    arguments = ("train-job", "train", "--config", vertex_config, "--job-dir", "gs://b/job", *DATA)
    request = wals(*arguments, "--dry-run", "--full").request
    assert vertex.calls == []
    assert wals(*arguments).exit_code == 0
    (sent,) = vertex.training.values()
    assert request["parent"] == PARENT
    assert container(request) == sent["jobSpec"]["workerPoolSpecs"][0]["containerSpec"]
    assert container(request)["args"] == ["--job-dir", "gs://b/job", *DATA]
    assert request["customJob"]["jobSpec"]["scheduling"] == sent["jobSpec"]["scheduling"]


def test_checkpoints_go_to_the_mount_of_the_bucket(wals: Wals, vertex_config: Path) -> None:
    arguments = ("train-job", "train", "--config", vertex_config, "--dry-run", *DATA, "--checkpoint_every=5")
    assert container(wals(*arguments, "--full").request)["args"][0].startswith(
        "--job-dir=/gcs/test-bucket/runs/jobs/20"
    )


def test_machine_and_more_come_from_the_settings_of_the_train_step(
    wals: Wals, vertex_config: Path, tmp_path: Path
) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(
        "train: {accelerator: '', accelerators: 0, custom_job: {machine_type: c3-standard-22, "
        "strategy: SPOT, timeout_seconds: 7200, labels: {team: shop}, service_account: a@b.c,"
        " encryption_key: projects/p/locations/l/keyRings/r/cryptoKeys/k}}",
        "utf-8",
    )
    config = tmp_path / "with-settings.yaml"
    config.write_text(vertex_config.read_text("utf-8") + f"settings: {settings}\n", "utf-8")
    job = wals("train-job", "train", "--config", config, "--dry-run", "--full", *DATA).request["customJob"]
    (pool,) = job["jobSpec"]["workerPoolSpecs"]
    assert pool["machineSpec"] == {"machineType": "c3-standard-22"}
    assert job["jobSpec"]["scheduling"] == {"timeout": "7200s", "strategy": "SPOT"}
    assert job["jobSpec"]["serviceAccount"] == "a@b.c"
    assert job["labels"] == {"team": "shop"}
    assert job["encryptionSpec"] == {"kmsKeyName": "projects/p/locations/l/keyRings/r/cryptoKeys/k"}


ATTACHMENT = "projects/p/regions/r/networkAttachments/private"
KEY = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
NETWORK = "projects/1/global/networks/n"
TENSORBOARD = "projects/1/locations/europe-west1/tensorboards/3"


@pytest.mark.parametrize("kind", ["train", "tune"])
@pytest.mark.parametrize(
    ("flags", "path", "expected"),
    [
        ((), "spec/serviceAccount", f"trainer@{PROJECT}.iam.gserviceaccount.com"),
        (("--network", NETWORK), "spec/network", NETWORK),
        (("--network-attachment", ATTACHMENT), "spec/pscInterfaceConfig/networkAttachment", ATTACHMENT),
        (("--encryption-key", KEY), "encryptionSpec/kmsKeyName", KEY),
        (("--label", "team=shop"), "labels/team", "shop"),
        (("--tensorboard", TENSORBOARD), "spec/tensorboard", TENSORBOARD),
        # The folder that trainer.task writes its progress to is "logs" in its output; so is Vertex AI's.
        (("--job-dir", "/gcs/b/job"), "spec/baseOutputDirectory/outputUriPrefix", "gs://b/job"),
    ],
)
def test_a_job_has_what_the_environments_runs_have(
    wals: Wals,
    vertex_config: Path,
    vertex: VertexServer,
    kind: str,
    flags: tuple[str, ...],
    path: str,
    expected: str,
) -> None:
    result = wals("train-job", kind, "--config", vertex_config, *flags, *DATA)
    assert result.exit_code == 0, result.stderr
    (job,) = vertex.training.values()
    found: Any = {**job, "spec": job["trialJobSpec" if kind == "tune" else "jobSpec"]}
    for part in path.split("/"):
        found = found[part]
    assert found == expected


def test_the_settings_of_the_step_go_before_the_environment(
    wals: Wals, vertex_config: Path, tmp_path: Path
) -> None:
    (tmp_path / "settings.yaml").write_text(
        f"train: {{custom_job: {{machine_type: n1-standard-8, network: {NETWORK}, labels: {{team: a}}}}}}",
        "utf-8",
    )
    flags = ("--settings", f"{tmp_path}/settings.yaml", "--network-attachment", ATTACHMENT)
    labels = ("--label", "team=b", "--label", "use=nightly")
    job = wals(
        "train-job", "train", "--config", vertex_config, *flags, *labels, "--dry-run", "--full", *DATA
    ).request
    assert job["customJob"]["labels"] == {"team": "a", "use": "nightly"}
    assert job["customJob"]["jobSpec"]["network"] == NETWORK
    assert "pscInterfaceConfig" not in job["customJob"]["jobSpec"]


def test_a_tensorboard_requires_a_service_account(wals: Wals, vertex_config: Path) -> None:
    content = vertex_config.read_text("utf-8")
    without = [line for line in content.splitlines() if "service_account" not in line]
    vertex_config.write_text("\n".join(without), "utf-8")
    result = wals("train-job", "train", "--config", vertex_config, "--tensorboard", TENSORBOARD, *DATA)
    assert result.exit_code == 2
    assert "requires a service account" in result.stderr


def test_a_job_belongs_to_the_experiment(wals: Wals, vertex_config: Path, vertex: VertexServer) -> None:
    vertex.has_metadata_store = True
    for _ in range(2):
        result = wals("train-job", "train", "--config", vertex_config, "--experiment", "nightly", *DATA)
        assert result.exit_code == 0, result.stderr
    assert list(vertex.contexts) == [f"{PARENT}/metadataStores/default/contexts/nightly"]
    assert {job["jobSpec"]["experiment"] for job in vertex.training.values()} == set(vertex.contexts)


def test_an_experiment_requires_a_metadata_store(
    wals: Wals, vertex_config: Path, vertex: VertexServer
) -> None:
    result = wals("train-job", "train", "--config", vertex_config, "--experiment", "nightly", *DATA)
    assert result.exit_code == 1
    assert "no metadata store before its first pipeline run" in result.stderr
    assert vertex.training == {}


def test_no_accelerators_means_none(wals: Wals, vertex_config: Path) -> None:
    request = wals(
        "train-job", "train", "--config", vertex_config, "--accelerators", 0, "--dry-run", "--full", *DATA
    ).request
    (pool,) = request["customJob"]["jobSpec"]["workerPoolSpecs"]
    assert pool["machineSpec"] == {"machineType": "n1-standard-8"}


@pytest.mark.parametrize(
    ("data_type", "weighting", "scale"),
    [
        ("user_ratings", "feature_wt_factor", "UNIT_REVERSE_LOG_SCALE"),
        ("web_views", "feature_wt_exp", "UNIT_LINEAR_SCALE"),
    ],
)
def test_tuning_searches_the_old_spaces_for_the_metric_that_a_trial_reports(
    wals: Wals, vertex_config: Path, vertex: VertexServer, data_type: str, weighting: str, scale: str
) -> None:
    arguments = ("--config", vertex_config, "--max-trials", 3, "--parallel-trials", 2)
    flags = ("--train-file", "gs://b/data.csv", "--data-type", data_type, "--num_iters", 7)
    result = wals("train-job", "tune", *arguments, "--wait", *flags)
    assert result.exit_code == 0, result.stderr
    (job,) = vertex.training.values()
    assert (job["maxTrialCount"], job["parallelTrialCount"]) == (3, 2)
    assert job["studySpec"]["metrics"] == [{"metricId": HYPERPARAMETER_METRIC_TAG, "goal": "MINIMIZE"}]
    space = {parameter["parameterId"]: parameter for parameter in job["studySpec"]["parameters"]}
    assert set(space) == {"regularization", "latent_factors", "unobs_weight", weighting}
    assert space["regularization"]["doubleValueSpec"] == {"minValue": 0.001, "maxValue": 10.0}
    assert space["regularization"]["scaleType"] == scale
    assert space["latent_factors"]["integerValueSpec"] == {"minValue": "5", "maxValue": "50"}
    # trainer.task accepts the flags that a trial is called with.
    (pool,) = job["trialJobSpec"]["workerPoolSpecs"]
    given = make_parser().parse_args([*pool["containerSpec"]["args"], "--latent_factors=7"])
    assert given.hypertune
    assert options_of(given).num_iters == 7
    best = next(line for line in result.stdout.splitlines() if line.startswith("Best test RMSE 1.0000"))
    assert "--latent_factors=14" in best
    assert [line for line in result.stdout.splitlines() if line.startswith("trial-3")]


def test_tune_with_its_flag_submits_the_same_job(
    wals: Wals, vertex_config: Path, vertex: VertexServer
) -> None:
    flags = ("--config", vertex_config, "--job-dir", "gs://b/job", *DATA, "--dry-run", "--full")
    first = wals("train-job", "tune", *flags).request
    second = wals("tune", "--vertex-hyperparameter-job", *flags).request
    for request in (first, second):
        del request["hyperparameterTuningJob"]["displayName"]
    assert first == second


def test_without_its_flag_tune_is_the_pipeline(wals: Wals) -> None:
    result = wals("tune", *DATA)
    assert result.exit_code == 2
    assert "--train-file" in result.stderr


@pytest.mark.parametrize(
    ("kind", "flags", "reported"),
    [
        ("train", [], "--train-file None: is missing"),
        (
            "train",
            ["--train-file", "ratings.csv"],
            "--train-file 'ratings.csv': cannot be reached from Vertex AI",
        ),
        ("train", [*DATA, "--job-dir", "jobs"], "--job-dir 'jobs': cannot be reached from Vertex AI"),
        ("train", [*DATA, "--warm_start", "model"], "--warm_start 'model': cannot be reached from Vertex AI"),
        (
            "train",
            [*DATA, "--latent_factors", "many"],
            "latent_factors 'many': is neither auto nor an integer",
        ),
        ("train", [*DATA, "--latent_factors=0"], "latent_factors '0': is below 1"),
        ("train", [*DATA, "--data-type", "films"], "argument --data-type: invalid choice: 'films'"),
        ("train", [*DATA, "--latent-factors", "5"], "unrecognized arguments: --latent-factors 5"),
        ("train", [*DATA, "--job-dir=gs://b/j", "--checkpoint_every=2"], "cannot write to gs://"),
        (
            "train",
            [*DATA, "--accelerator", "NVIDIA_K80"],
            "train.accelerator 'NVIDIA_K80': is unknown on vertex",
        ),
        ("train", [*DATA, "--machine-type", "Large"], "train.custom_job.machine_type 'Large'"),
        ("tune", [*DATA, "--test_fraction=0"], "--hypertune True: has no metric"),
        ("tune", [*DATA, "--latent_factors=5"], "--latent_factors '5': is tuned for user_ratings"),
        ("tune", [*DATA, "--parallel-trials=9", "--max-trials=2"], "--parallel-trials 9: is above"),
        ("local", ["--train-file", "r.csv", "--alpha=-1"], "alpha '-1': is below 0"),
    ],
)
def test_invalid_flags_are_reported_in_one_line_before_anything_is_sent(
    wals: Wals, vertex_config: Path, vertex: VertexServer, kind: str, flags: list[str], reported: str
) -> None:
    config = [] if kind == "local" else ["--config", vertex_config]
    result = wals("train-job", kind, *config, *flags)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert reported in result.stderr
    assert vertex.calls == []


def test_kubeflow_has_no_training_jobs(wals: Wals, kubeflow_config: Path) -> None:
    result = wals("train-job", "train", "--config", kubeflow_config, *DATA)
    assert result.exit_code == 2
    assert "target 'kubeflow': does not support training jobs" in result.stderr


def test_a_project_that_vertex_does_not_know_is_one_line(wals: Wals, vertex_config: Path) -> None:
    result = wals("train-job", "train", "--config", vertex_config, "--project", "other-project", *DATA)
    assert result.exit_code == 1
    assert result.stderr == "wals: error: training: Vertex AI does not know the project or the region\n"


def test_an_unknown_job_is_named(wals: Wals, vertex_config: Path) -> None:
    for command in ("runs", "cancel"):
        result = wals(command, "customJobs/1", "--config", vertex_config)
        assert result.exit_code == 2
        assert "'customJobs/1': does not exist" in result.stderr
        assert result.stderr.count("\n") == 1
