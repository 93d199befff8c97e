"""Retrain the recommendations every evening, once their source table is fresh.

The first DAG runs a template that `wals upload` uploaded, on Vertex AI. The second runs `wals submit` from a
separate Python environment, for an open-source Kubeflow Pipelines server. Both are configured by the Airflow
variable ``wals``, a JSON object; docs/operations.md lists its keys. Requires Airflow 2.9 or later.
"""

import json
import shlex
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any
from urllib.error import HTTPError

try:
    from airflow.sdk import DAG, PokeReturnValue, task
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.decorators import task
    from airflow.sensors.base import PokeReturnValue
try:
    from airflow.sdk.exceptions import AirflowFailException
except ImportError:  # Airflow 2 and 3.0
    from airflow.exceptions import AirflowFailException
from airflow.providers.google.cloud.hooks.vertex_ai.pipeline_job import PipelineJobHook
from airflow.providers.google.cloud.operators.vertex_ai.pipeline_job import RunPipelineJobOperator
from airflow.providers.smtp.notifications.smtp import send_smtp_notification
from google.api_core.exceptions import ClientError

DAG_ARGUMENTS = {
    "schedule": "0 21 * * *",
    "start_date": datetime(2026, 1, 1, tzinfo=UTC),
    "catchup": False,
    "max_active_runs": 1,
    # Most deployments use only one of the DAGs.
    "is_paused_upon_creation": True,
    "default_args": {
        "retries": 5,
        "retry_delay": timedelta(minutes=10),
        "on_failure_callback": send_smtp_notification(
            # From the connection or the configuration. Providers for Airflow 2.9 require the argument.
            from_email=None,
            to="{{ var.json.wals.alert_email }}",
            subject="{{ dag.dag_id }}: {{ ti.task_id }} failed",
            html_content=(
                "Run {{ run_id }} failed after {{ ti.try_number }} tries: {{ exception | e }}<br>"
                "{{ ti.log_url }}"
            ),
        ),
    },
    "tags": ["recommendations"],
}


@task(multiple_outputs=True)
def settings(required: list[str], var: Any = None) -> dict[str, Any]:
    """Return the variable that configures the DAG, and fail without retries if keys are missing."""
    variable = var["json"].get("wals", {})
    if missing := [key for key in (*required, "alert_email") if not variable.get(key)]:
        raise AirflowFailException(f"the Airflow variable wals lacks {', '.join(missing)}")
    return {"parameters": {}, "window_days": 0, **variable}


@task.sensor(poke_interval=600, timeout=6 * 3600, mode="reschedule")
def fresh_rows(
    project: str,
    table: str,
    window_days: int,
    parameters: dict[str, Any],
    data_interval_end: datetime | None = None,
) -> PokeReturnValue:
    """Wait until the table has changed since a day before the scheduled time.

    Returns:
        The pipeline's parameters. They pin the time of the check that found the table fresh, so that retries
        of the training read the same rows, and a new run never reuses the cached extraction of an old one.
    """
    from airflow.providers.google.cloud.hooks.bigquery import BigQueryHook

    now = datetime.now(UTC)
    # Runs that are triggered by hand may have no interval.
    end = data_interval_end or now
    modified = BigQueryHook(use_legacy_sql=False).get_client(project_id=project).get_table(table).modified
    values = {"source": f"bq://{table}", "snapshot": now.isoformat(timespec="seconds")}
    if window_days:
        values["window_start"] = (end - timedelta(days=window_days)).isoformat()
        values["window_end"] = end.isoformat()
    return PokeReturnValue(is_done=modified >= end - timedelta(days=1), xcom_value=values | parameters)


class TemplateHook(PipelineJobHook):
    """The provider's hook, whose errors do not name a template that cannot be read."""

    def get_pipeline_job_object(self, *, template_path: str, **options: Any) -> Any:
        """Return the job, and fail without retries if its template does not exist or cannot be read."""
        try:
            return super().get_pipeline_job_object(template_path=template_path, **options)
        # The errors of Artifact Registry and of Cloud Storage.
        except (HTTPError, ClientError) as error:
            reasons = {
                403: "cannot be read by Airflow's account; grant it the roles in deploy/terraform/README.md",
                404: "does not exist; set `template` to the location that `wals upload` prints",
            }
            if error.code not in reasons:
                raise
            raise AirflowFailException(f"the template {template_path} {reasons[error.code]}") from None


class TrainOnVertex(RunPipelineJobOperator):
    """The provider's operator, which does not render all of these fields in its earlier versions."""

    template_fields = sorted(
        {
            *RunPipelineJobOperator.template_fields,
            *("template_path", "pipeline_root", "parameter_values", "service_account"),
        }
    )

    @cached_property
    def hook(self) -> TemplateHook:
        """Return the hook that submits the job."""
        return TemplateHook(gcp_conn_id=self.gcp_conn_id, impersonation_chain=self.impersonation_chain)


@task.bash
def train_on_kubeflow(command: str, config: str, parameters: dict[str, Any]) -> str:
    """Return the command, whose packages are separate: Airflow's and Kubeflow's conflict."""
    values = (
        f"{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in parameters.items()
    )
    options = (part for value in values for part in ("-p", value))
    return shlex.join([command, "submit", "--config", config, "--wait", *options])


def pipeline_parameters(variable: Any) -> Any:
    """Return the output of the sensor, the pipeline's parameters."""
    return fresh_rows(*(variable[key] for key in ("project", "table", "window_days", "parameters")))


with DAG("recommendations_model_training", **DAG_ARGUMENTS):
    vertex = settings(["project", "region", "table", "template", "pipeline_root", "service_account"])
    TrainOnVertex(
        task_id="train_on_vertex",
        display_name="recommendations-model-training",
        project_id=vertex["project"],
        region=vertex["region"],
        template_path=vertex["template"],
        pipeline_root=vertex["pipeline_root"],
        service_account=vertex["service_account"],
        parameter_values=pipeline_parameters(vertex),
        deferrable=True,
        poll_interval=60,
    )

with DAG("recommendations_model_training_kubeflow", **DAG_ARGUMENTS):
    kubeflow = settings(["project", "table", "command", "config"])
    train_on_kubeflow(kubeflow["command"], kubeflow["config"], pipeline_parameters(kubeflow))
