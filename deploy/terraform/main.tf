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
    var.budget == null ? [] : ["billingbudgets.googleapis.com", "pubsub.googleapis.com"],
    var.cloud_build ? ["cloudbuild.googleapis.com"] : [],
    var.composer ? ["composer.googleapis.com"] : [],
    var.encryption_key == null ? [] : ["cloudkms.googleapis.com"],
    length(local.secrets) == 0 ? [] : ["secretmanager.googleapis.com"],
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

  dynamic "encryption" {
    for_each = var.encryption_key[*]
    content {
      default_kms_key_name = encryption.value
    }
  }

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

  depends_on = [google_project_service.enabled, google_kms_crypto_key_iam_member.region]
}

# The images of the steps. Nothing deletes them: a schedule names an image by its digest, also after the image has
# lost its tags to a newer one, and its runs fail without it. docs/images.md says how to delete old ones.
resource "google_artifact_registry_repository" "images" {
  repository_id = "wals"
  location      = var.region
  format        = "DOCKER"
  description   = "Images of the steps"
  kms_key_name  = var.encryption_key
  depends_on    = [google_project_service.enabled, google_kms_crypto_key_iam_member.region]

  lifecycle {
    # A new region or key would replace the repository.
    prevent_destroy = true
  }
}

# Compiled pipelines that `wals upload` uploads.
resource "google_artifact_registry_repository" "templates" {
  repository_id = "wals-templates"
  location      = var.region
  format        = "KFP"
  description   = "Compiled pipelines"
  kms_key_name  = var.encryption_key
  depends_on    = [google_project_service.enabled, google_kms_crypto_key_iam_member.region]

  lifecycle {
    prevent_destroy = true
  }
}

# The empty table that the source bq://PROJECT stands for; only if var.default_source.
resource "google_bigquery_dataset" "source" {
  count       = var.default_source ? 1 : 0
  dataset_id  = "staging"
  location    = var.bigquery_location
  description = "Ratings to train recommendations on"

  dynamic "default_encryption_configuration" {
    for_each = local.bigquery_key[*]
    content {
      kms_key_name = default_encryption_configuration.value
    }
  }

  depends_on = [google_project_service.enabled, google_kms_crypto_key_iam_member.bigquery]
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

# Interactions that stay in BigQuery between steps, with the parameter staging_dataset. The steps give each table
# its own time to expire; the default is for one that a step could not finish.
resource "google_bigquery_dataset" "staging" {
  dataset_id                      = "wals_staging"
  location                        = var.bigquery_location
  description                     = "Interactions passed between the steps of the pipeline"
  default_table_expiration_ms     = 14 * 24 * 3600 * 1000
  default_partition_expiration_ms = 14 * 24 * 3600 * 1000

  dynamic "default_encryption_configuration" {
    for_each = local.bigquery_key[*]
    content {
      kms_key_name = default_encryption_configuration.value
    }
  }

  depends_on = [google_project_service.enabled, google_kms_crypto_key_iam_member.bigquery]
}
