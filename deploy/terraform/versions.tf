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
  # The Budget API refuses user credentials without a quota project.
  user_project_override = true
  billing_project       = var.project
}
