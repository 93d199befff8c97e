# Cloud Composer, for airflow/dags; only if var.composer.

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

# The sensor asks when the source table was last written to.
resource "google_bigquery_dataset_iam_member" "composer" {
  for_each   = var.composer ? local.sources : []
  dataset_id = each.value
  role       = "roles/bigquery.metadataViewer"
  member     = google_service_account.composer[0].member
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
