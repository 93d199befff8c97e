variable "project" {
  description = "Google Cloud project to set up."
  type        = string
}

variable "region" {
  description = "Region of Vertex AI, the buckets, the repositories and Cloud Composer."
  type        = string
  default     = "europe-west1"

  validation {
    # The list that `wals check` uses too.
    condition = contains(
      yamldecode(file("${path.module}/../../pipeline/definition/vertex_facts.yaml")).regions, var.region
    )
    error_message = "Vertex AI runs no pipelines in ${var.region}; give one of the regions in pipeline/definition/vertex_facts.yaml, such as europe-west1."
  }
}

variable "bigquery_location" {
  description = "Location of the BigQuery datasets; must be that of the source tables, because queries cannot span locations."
  type        = string
  default     = "EU"
}

variable "source_datasets" {
  description = "BigQuery datasets of this project that the pipeline reads."
  type        = set(string)
  default     = []
}

variable "delivery_datasets" {
  description = "BigQuery datasets of this project that the pipeline delivers recommendations to."
  type        = set(string)
  default     = []
}

variable "default_source" {
  description = "Whether to create the empty table staging.recommendation_training, which the source bq://PROJECT stands for."
  type        = bool
  default     = false
}

variable "operators" {
  description = "Members who submit and schedule runs, such as user:ann@example.com or group:ml@example.com."
  type        = set(string)
  default     = []
}

variable "artifact_days" {
  description = "Days after which the artifacts of a run are deleted."
  type        = number
  default     = 90
}

variable "encryption_key" {
  description = "Cloud KMS key in the region that encrypts the buckets, the repositories and the runs; Google's keys if null."
  type        = string
  default     = null

  validation {
    condition = var.encryption_key == null || can(
      regex("^projects/[^/]+/locations/${var.region}/keyRings/[^/]+/cryptoKeys/[^/]+$", var.encryption_key)
    )
    error_message = "Give a key in the region, as projects/PROJECT/locations/${var.region}/keyRings/RING/cryptoKeys/KEY."
  }

  validation {
    condition     = var.encryption_key == null || !var.composer
    error_message = "Cloud Composer is not encrypted with the key; set composer to false, and see README.md."
  }
}

variable "bigquery_encryption_key" {
  description = "Cloud KMS key in the location of the datasets that encrypts them; encryption_key if null."
  type        = string
  default     = null

  validation {
    condition     = var.bigquery_encryption_key == null || var.encryption_key != null
    error_message = "Set encryption_key too, which encrypts the rest."
  }

  validation {
    # Cloud KMS has other names for the multi-regions.
    condition = var.encryption_key == null || can(regex(
      "^projects/[^/]+/locations/${lookup({ EU = "europe", US = "us" }, upper(var.bigquery_location), lower(var.bigquery_location))}/keyRings/[^/]+/cryptoKeys/[^/]+$",
      coalesce(var.bigquery_encryption_key, var.encryption_key)
    ))
    error_message = "The datasets are in ${var.bigquery_location} and require a key there; for EU, in the location europe of Cloud KMS, for US in us."
  }
}

variable "cloud_build" {
  description = "Whether to set up Cloud Build, which builds and pushes the images with cloudbuild.yaml."
  type        = bool
  default     = false
}

variable "composer" {
  description = "Whether to create a Cloud Composer environment, which costs money even when nothing runs."
  type        = bool
  default     = false
}

variable "webhook_secret" {
  description = "Name of an existing secret with the address of the webhook that is notified of how runs end; none if null."
  type        = string
  default     = null
}

variable "step_secrets" {
  description = "Names of existing secrets that steps read, such as the keys of an S3 source."
  type        = set(string)
  default     = []
}

variable "budget" {
  description = "Monthly budget with alerts by mail and to a Pub/Sub topic; no alerts if null."
  type = object({
    billing_account = string
    currency        = string
    amount          = number
  })
  default = null
}
