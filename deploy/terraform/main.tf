locals {
  services = [
    "aiplatform.googleapis.com",
    "artifactregistry.googleapis.com",
    "bigquery.googleapis.com",
    "bigquerystorage.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "compute.googleapis.com",
    "iam.googleapis.com",
    "logging.googleapis.com",
    "storage.googleapis.com",
  ]
  optional_services = concat(
    var.composer ? ["composer.googleapis.com"] : [],
    var.budget == null ? [] : ["billingbudgets.googleapis.com"],
  )
}

resource "google_project_service" "enabled" {
  for_each = toset(concat(local.services, local.optional_services))
  service  = each.value
  # Other parts of the project may use them too.
  disable_on_destroy = false
}

data "google_project" "this" {
  project_id = var.project
}

# Artifacts of runs and, without a template repository, templates.
resource "google_storage_bucket" "pipeline" {
  name                        = "${var.project}-wals"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  lifecycle_rule {
    condition {
      age = var.artifact_days
      # Vertex AI writes a run's artifacts under the project's number.
      matches_prefix = ["runs/${data.google_project.this.number}/"]
    }
    action {
      type = "Delete"
    }
  }

  lifecycle_rule {
    condition {
      age = 7
    }
    action {
      type = "AbortIncompleteMultipartUpload"
    }
  }

  depends_on = [google_project_service.enabled]
}

# The images of the steps.
resource "google_artifact_registry_repository" "images" {
  repository_id = "wals"
  location      = var.region
  format        = "DOCKER"
  description   = "Images of the steps"

  cleanup_policies {
    id     = "delete-untagged"
    action = "DELETE"
    condition {
      tag_state  = "UNTAGGED"
      older_than = "2592000s"
    }
  }

  depends_on = [google_project_service.enabled]
}

# Compiled pipelines that `wals upload` uploads.
resource "google_artifact_registry_repository" "templates" {
  repository_id = "wals-templates"
  location      = var.region
  format        = "KFP"
  description   = "Compiled pipelines"
  depends_on    = [google_project_service.enabled]
}

# The empty table that the source bq://PROJECT stands for; only if var.default_source.
resource "google_bigquery_dataset" "source" {
  count       = var.default_source ? 1 : 0
  dataset_id  = "staging"
  location    = var.bigquery_location
  description = "Ratings to train recommendations on"
  depends_on  = [google_project_service.enabled]
}

resource "google_bigquery_table" "source" {
  count       = var.default_source ? 1 : 0
  dataset_id  = google_bigquery_dataset.source[0].dataset_id
  table_id    = "recommendation_training"
  description = "One rating per row"

  schema = jsonencode([
    { name = "userId", type = "STRING", mode = "REQUIRED" },
    { name = "itemId", type = "STRING", mode = "REQUIRED" },
    { name = "rating", type = "FLOAT", mode = "REQUIRED" },
  ])
}

# Interactions that stay in BigQuery between steps, with the parameter staging_dataset.
resource "google_bigquery_dataset" "staging" {
  dataset_id                      = "wals_staging"
  location                        = var.bigquery_location
  description                     = "Interactions passed between the steps of the pipeline"
  default_table_expiration_ms     = 7 * 24 * 3600 * 1000
  default_partition_expiration_ms = 7 * 24 * 3600 * 1000
  depends_on                      = [google_project_service.enabled]
}
