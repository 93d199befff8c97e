# Cloud Build, for cloudbuild.yaml; only if var.cloud_build.

# The account that builds run as. Cloud Build's default accounts may do far more.
resource "google_service_account" "builds" {
  count        = var.cloud_build ? 1 : 0
  account_id   = "wals-builds"
  display_name = "Builds of the WALS pipeline's images"
  depends_on   = [google_project_service.enabled]
}

# What `gcloud builds submit` uploads, and the digests of the pushed images.
resource "google_storage_bucket" "builds" {
  count                       = var.cloud_build ? 1 : 0
  name                        = "${var.project}-wals-builds"
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
      age            = 30
      matches_prefix = ["source/"]
    }
    action {
      type = "Delete"
    }
  }

  depends_on = [google_project_service.enabled, google_kms_crypto_key_iam_member.region]
}

resource "google_project_iam_member" "builds" {
  count   = var.cloud_build ? 1 : 0
  project = var.project
  role    = "roles/logging.logWriter"
  member  = google_service_account.builds[0].member
}

resource "google_artifact_registry_repository_iam_member" "builds" {
  count      = var.cloud_build ? 1 : 0
  repository = google_artifact_registry_repository.images.name
  location   = var.region
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.builds[0].member
}

resource "google_storage_bucket_iam_member" "builds" {
  count  = var.cloud_build ? 1 : 0
  bucket = google_storage_bucket.builds[0].name
  role   = "roles/storage.objectUser"
  member = google_service_account.builds[0].member
}

resource "google_project_iam_member" "operators_builds" {
  for_each = var.cloud_build ? var.operators : []
  project  = var.project
  role     = "roles/cloudbuild.builds.editor"
  member   = each.value
}

resource "google_service_account_iam_member" "operators_builds" {
  for_each           = var.cloud_build ? var.operators : []
  service_account_id = google_service_account.builds[0].name
  role               = "roles/iam.serviceAccountUser"
  member             = each.value
}

resource "google_storage_bucket_iam_member" "operators_builds" {
  for_each = var.cloud_build ? var.operators : []
  bucket   = google_storage_bucket.builds[0].name
  role     = "roles/storage.objectUser"
  member   = each.value
}

# gcloud looks up the bucket before it uploads to it.
resource "google_storage_bucket_iam_member" "operators_builds_lookup" {
  for_each = var.cloud_build ? var.operators : []
  bucket   = google_storage_bucket.builds[0].name
  role     = "roles/storage.legacyBucketReader"
  member   = each.value
}
