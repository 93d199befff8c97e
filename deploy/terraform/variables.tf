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
  description = "Location of the BigQuery dataset; that of the source tables, as a query cannot join across."
  type        = string
  default     = "EU"
}

variable "source_datasets" {
  description = "BigQuery datasets of this project that the pipeline reads."
  type        = set(string)
  default     = []
}

variable "default_source" {
  description = "Whether to make the empty table staging.recommendation_training, which `wals` reads by default."
  type        = bool
  default     = false
}

variable "operators" {
  description = "Who submits and schedules runs, such as user:ann@example.com or group:ml@example.com."
  type        = set(string)
  default     = []
}

variable "artifact_days" {
  description = "Days after which the artifacts of a run are deleted."
  type        = number
  default     = 90
}

variable "composer" {
  description = "Whether to set up Cloud Composer, which costs money also while nothing runs."
  type        = bool
  default     = false
}

variable "budget" {
  description = "Monthly budget to be warned about; no warning if null."
  type = object({
    billing_account = string
    currency        = string
    amount          = number
  })
  default = null
}
