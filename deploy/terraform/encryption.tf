# A customer-managed key (CMEK); only if var.encryption_key. README.md says what it encrypts.

locals {
  bigquery_key = var.bigquery_encryption_key == null ? var.encryption_key : var.bigquery_encryption_key
}

# Google creates these agents at the first use of their service, which is too late to grant them the key.
resource "google_project_service_identity" "agents" {
  for_each   = toset(var.encryption_key == null ? [] : ["aiplatform.googleapis.com", "artifactregistry.googleapis.com"])
  provider   = google-beta
  service    = each.value
  depends_on = [google_project_service.enabled]
}

# With depends_on, enabling any other API would read these again after the plan, and so replace the grants.
data "google_storage_project_service_account" "this" {
  count   = var.encryption_key == null ? 0 : 1
  project = google_project_service.enabled["storage.googleapis.com"].project
}

data "google_bigquery_default_service_account" "this" {
  count   = var.encryption_key == null ? 0 : 1
  project = google_project_service.enabled["bigquery.googleapis.com"].project
}

resource "google_kms_crypto_key_iam_member" "region" {
  for_each = var.encryption_key == null ? {} : {
    "Artifact Registry" = google_project_service_identity.agents["artifactregistry.googleapis.com"].member
    "Cloud Storage"     = data.google_storage_project_service_account.this[0].member
    "Vertex AI"         = google_project_service_identity.agents["aiplatform.googleapis.com"].member
  }
  crypto_key_id = var.encryption_key
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = each.value
}

resource "google_kms_crypto_key_iam_member" "bigquery" {
  count         = var.encryption_key == null ? 0 : 1
  crypto_key_id = local.bigquery_key
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = data.google_bigquery_default_service_account.this[0].member
}
