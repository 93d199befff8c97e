variable "project" {
  description = "Google Cloud project to set up."
  type        = string
}

variable "region" {
  description = "Region of Vertex AI, the bucket, the repositories and Cloud Composer."
  type        = string
  default     = "europe-west1"
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

variable "composer" {
  description = "Whether to create a Cloud Composer environment, which costs money even when nothing runs."
  type        = bool
  default     = false
}

variable "budget" {
  description = "Monthly budget with email alerts; no alerts if null."
  type = object({
    billing_account = string
    currency        = string
    amount          = number
  })
  default = null
}
