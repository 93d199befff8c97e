# Cloud Composer, for deploy/airflow/dags; only if var.composer.

resource "google_service_account" "composer" {
  count        = var.composer ? 1 : 0
  account_id   = "wals-composer"
  display_name = "Airflow of the WALS pipeline"
  depends_on   = [google_project_service.enabled]
}

resource "google_project_iam_member" "composer" {
  count   = var.composer ? 1 : 0
  project = var.project
  role    = "roles/composer.worker"
  member  = google_service_account.composer[0].member
}

# Airflow's client looks up the bucket before it submits a run; `wals submit` does not.
resource "google_storage_bucket_iam_member" "composer" {
  count  = var.composer ? 1 : 0
  bucket = google_storage_bucket.pipeline.name
  role   = "roles/storage.legacyBucketReader"
  member = google_service_account.composer[0].member
}

resource "google_artifact_registry_repository_iam_member" "composer" {
  count      = var.composer ? 1 : 0
  repository = google_artifact_registry_repository.templates.name
  location   = var.region
  role       = "roles/artifactregistry.reader"
  member     = google_service_account.composer[0].member
}

resource "google_project_iam_member" "operators_composer" {
  for_each = var.composer ? var.operators : []
  project  = var.project
  role     = "roles/composer.user"
  member   = each.value
}

resource "google_composer_environment" "airflow" {
  count  = var.composer ? 1 : 0
  name   = "wals"
  region = var.region

  config {
    environment_size = "ENVIRONMENT_SIZE_SMALL"

    software_config {
      image_version = "composer-3-airflow-2"
    }

    node_config {
      service_account = google_service_account.composer[0].email
    }
  }

  depends_on = [google_project_iam_member.composer]
}
