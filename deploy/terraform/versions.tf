terraform {
  required_version = "~> 1.9"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 7.0"
    }
  }
}

provider "google" {
  project = var.project
  region  = var.region
  # The API of budgets refuses a person's own credentials without a project to bill its quota to.
  user_project_override = true
  billing_project       = var.project
}
