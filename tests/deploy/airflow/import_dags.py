"""Run by Airflow's interpreter: import the DAGs and print their properties as JSON."""

import json
import os
import warnings

try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:  # Airflow 2
    from airflow.models.dagbag import DagBag

folder = os.environ["AIRFLOW__CORE__DAGS_FOLDER"]
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    bag = DagBag(folder)
dags = {
    name: {
        "schedule": dag.schedule if hasattr(dag, "schedule") else dag.schedule_interval,
        "catchup": dag.catchup,
        "starts_paused": dag.is_paused_upon_creation,
        "tasks": {task.task_id: sorted(task.upstream_task_ids) for task in dag.tasks},
        "retries": sorted({task.retries for task in dag.tasks}),
        "alerts": all(bool(task.on_failure_callback) for task in dag.tasks),
    }
    for name, dag in bag.dags.items()
}
own = [warning for warning in caught if warning.filename.startswith(folder)]
messages = [f"{warning.filename}: {warning.message}" for warning in own]
print(json.dumps({"errors": bag.import_errors, "warnings": messages, "dags": dags}))
