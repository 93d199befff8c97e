"""Run by Airflow's interpreter: run a DAG to its end, with Vertex AI at the given address.

Only two things differ from a deployment: the addresses, because Airflow's hook creates its clients for
Google's, and the number of the project that owns the bucket, which Cloud Resource Manager would look up.
"""

import re
import sys
from datetime import datetime

from airflow.providers.google.cloud.hooks.vertex_ai.pipeline_job import PipelineJobAsyncHook
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform
from google.cloud.aiplatform.utils import resource_manager_utils, yaml_utils
from google.cloud.aiplatform_v1 import PipelineServiceClient

try:
    from airflow.dag_processing.dagbag import DagBag

    date_name = "logical_date"
except ImportError:  # Airflow 2
    from airflow.models.dagbag import DagBag

    date_name = "execution_date"

dag_id, scheduled, endpoint = sys.argv[1:]
anonymous = AnonymousCredentials()
aiplatform.init(api_endpoint=endpoint, api_transport="rest", credentials=anonymous)


class _AsyncClient:
    """The REST client behind the method that the hook awaits; it has no asynchronous version."""

    def __init__(self):
        self._client = PipelineServiceClient(
            credentials=anonymous, transport="rest", client_options={"api_endpoint": endpoint}
        )

    def pipeline_job_path(self, **parts):
        return self._client.pipeline_job_path(**parts)

    async def get_pipeline_job(self, request, **_):
        return self._client.get_pipeline_job(request)


async def _client(self, region=None):
    return _AsyncClient()


PipelineJobAsyncHook.get_pipeline_service_client = _client

yaml_utils._VALID_AR_URL = re.compile(re.escape(endpoint))
# The number that the local object store reports as the owner of its buckets.
resource_manager_utils.get_project_number = lambda _: "0"

dag = DagBag().dags[dag_id]
for task in dag.tasks:
    task.retries = 0
    if hasattr(task, "poll_interval"):
        task.poll_interval = 0
    # A sensor fails instead of checking again.
    if hasattr(task, "timeout"):
        task.timeout = 0
run = dag.test(**{date_name: datetime.fromisoformat(scheduled)})
for instance in run.get_task_instances():
    print(f"{instance.task_id} {instance.state}")
print(f"ended {run.state}")
