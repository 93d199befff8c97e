# README.md lists these roles with their reasons; change both together.

# The account that the steps run as.
resource "google_service_account" "steps" {
  account_id   = "wals-pipeline"
  display_name = "Steps of the WALS pipeline"
  depends_on   = [google_project_service.enabled]
}

locals {
  steps = google_service_account.steps.member
  steps_roles = [
    "roles/aiplatform.user",
    "roles/bigquery.jobUser",
    "roles/bigquery.readSessionUser",
    "roles/logging.logWriter",
  ]
  sources = setunion(var.source_datasets, google_bigquery_dataset.source[*].dataset_id)
  secrets = setunion(var.step_secrets, var.webhook_secret[*])
  # Composer submits runs like the operators. Keys must be known before its account exists.
  submitters = merge(
    { for operator in var.operators : operator => operator },
    { for account in google_service_account.composer : "composer" => account.member },
  )
}

resource "google_project_iam_member" "steps" {
  for_each = toset(local.steps_roles)
  project  = var.project
  role     = each.value
  member   = local.steps
}

resource "google_storage_bucket_iam_member" "steps" {
  bucket = google_storage_bucket.pipeline.name
  role   = "roles/storage.objectUser"
  member = local.steps
}

# For TensorBoard Google asks for roles/storage.admin, which would also allow changing the bucket and who has access.
resource "google_storage_bucket_iam_member" "steps_lookup" {
  bucket = google_storage_bucket.pipeline.name
  role   = "roles/storage.legacyBucketReader"
  member = local.steps
}

resource "google_bigquery_dataset_iam_member" "steps_read" {
  for_each   = local.sources
  dataset_id = each.value
  role       = "roles/bigquery.dataViewer"
  member     = local.steps
}

resource "google_bigquery_dataset_iam_member" "steps_stage" {
  dataset_id = google_bigquery_dataset.staging.dataset_id
  role       = "roles/bigquery.dataEditor"
  member     = local.steps
}

resource "google_bigquery_dataset_iam_member" "steps_deliver" {
  for_each   = var.delivery_datasets
  dataset_id = each.value
  role       = "roles/bigquery.dataEditor"
  member     = local.steps
}

resource "google_artifact_registry_repository_iam_member" "steps" {
  repository = google_artifact_registry_repository.images.name
  location   = var.region
  role       = "roles/artifactregistry.reader"
  member     = local.steps
}

resource "google_secret_manager_secret_iam_member" "steps" {
  for_each   = local.secrets
  secret_id  = each.value
  role       = "roles/secretmanager.secretAccessor"
  member     = local.steps
  depends_on = [google_project_service.enabled]
}

# A step that is a custom job starts the job under the same account.
resource "google_service_account_iam_member" "steps" {
  service_account_id = google_service_account.steps.name
  role               = "roles/iam.serviceAccountUser"
  member             = local.steps
}

resource "google_project_iam_member" "submitters" {
  for_each = local.submitters
  project  = var.project
  role     = "roles/aiplatform.user"
  member   = each.value
}

resource "google_project_iam_member" "operators_logs" {
  for_each = var.operators
  project  = var.project
  role     = "roles/logging.viewer"
  member   = each.value
}

# Vertex AI refuses user credentials without a quota project.
resource "google_project_iam_member" "operators_quota" {
  for_each = var.operators
  project  = var.project
  role     = "roles/serviceusage.serviceUsageConsumer"
  member   = each.value
}

# `wals check` looks up the source, and Airflow's sensor the time of its last change.
resource "google_bigquery_dataset_iam_member" "submitters" {
  for_each = {
    for pair in setproduct(local.sources, keys(local.submitters)) : join(" ", pair) => pair
  }
  dataset_id = each.value[0]
  role       = "roles/bigquery.metadataViewer"
  member     = local.submitters[each.value[1]]
}

# `wals check` looks up the staging dataset too.
resource "google_bigquery_dataset_iam_member" "operators_staging" {
  for_each   = var.operators
  dataset_id = google_bigquery_dataset.staging.dataset_id
  role       = "roles/bigquery.metadataViewer"
  member     = each.value
}

# `wals models promote` and `rollback` replace the rows of a delivery, with the operator's own credentials.
resource "google_bigquery_dataset_iam_member" "operators_deliver" {
  for_each = {
    for pair in setproduct(var.delivery_datasets, var.operators) : join(" ", pair) => pair
  }
  dataset_id = each.value[0]
  role       = "roles/bigquery.dataEditor"
  member     = each.value[1]
}

resource "google_project_iam_member" "operators_jobs" {
  for_each = length(var.delivery_datasets) == 0 ? [] : var.operators
  project  = var.project
  role     = "roles/bigquery.jobUser"
  member   = each.value
}

resource "google_project_iam_member" "operators_read" {
  for_each = length(var.delivery_datasets) == 0 ? [] : var.operators
  project  = var.project
  role     = "roles/bigquery.readSessionUser"
  member   = each.value
}

# `wals check` looks up the secret, but cannot read it.
resource "google_secret_manager_secret_iam_member" "operators" {
  for_each   = var.webhook_secret == null ? [] : var.operators
  secret_id  = var.webhook_secret
  role       = "roles/secretmanager.viewer"
  member     = each.value
  depends_on = [google_project_service.enabled]
}

resource "google_service_account_iam_member" "submitters" {
  for_each           = local.submitters
  service_account_id = google_service_account.steps.name
  role               = "roles/iam.serviceAccountUser"
  member             = each.value
}

resource "google_storage_bucket_iam_member" "submitters" {
  for_each = local.submitters
  bucket   = google_storage_bucket.pipeline.name
  role     = "roles/storage.objectUser"
  member   = each.value
}

resource "google_artifact_registry_repository_iam_member" "operators_images" {
  for_each   = var.operators
  repository = google_artifact_registry_repository.images.name
  location   = var.region
  role       = "roles/artifactregistry.writer"
  member     = each.value
}

resource "google_artifact_registry_repository_iam_member" "operators_templates" {
  for_each   = var.operators
  repository = google_artifact_registry_repository.templates.name
  location   = var.region
  role       = "roles/artifactregistry.writer"
  member     = each.value
}
