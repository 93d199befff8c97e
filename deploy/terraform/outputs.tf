output "platform" {
  description = "Section `platform` of an environment file for `wals`, such as config/prod.yaml."
  value = {
    target              = "vertex"
    project             = var.project
    region              = var.region
    pipeline_root       = "${google_storage_bucket.pipeline.url}/runs"
    service_account     = google_service_account.steps.email
    encryption_key      = var.encryption_key == null ? "" : var.encryption_key
    template_repository = "https://${var.region}-kfp.pkg.dev/${var.project}/${google_artifact_registry_repository.templates.repository_id}"
  }
}

output "image_prefix" {
  description = "Registry and repository of the step images: REGISTRY of `make push`, `prefix` of an environment's images."
  value       = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
}

output "dags" {
  description = "Folder of Cloud Composer for the files in deploy/airflow/dags; null without Composer."
  value       = one(google_composer_environment.airflow[*].config[0].dag_gcs_prefix)
}
