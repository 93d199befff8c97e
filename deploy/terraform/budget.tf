# Mails the billing account's administrators at 50%, 90% and 100% of the budget, and publishes each update of the
# costs, several times a day, to a topic. Subscribe what reacts to it: a chat, an on-call service, or a function.
resource "google_pubsub_topic" "budget" {
  count      = var.budget == null ? 0 : 1
  name       = "wals-budget"
  depends_on = [google_project_service.enabled]
}

resource "google_billing_budget" "monthly" {
  count           = var.budget == null ? 0 : 1
  billing_account = var.budget.billing_account
  display_name    = "WALS pipeline"

  budget_filter {
    projects = ["projects/${data.google_project.this.number}"]
  }

  amount {
    specified_amount {
      currency_code = var.budget.currency
      units         = var.budget.amount
    }
  }

  dynamic "threshold_rules" {
    for_each = [0.5, 0.9, 1.0]
    content {
      threshold_percent = threshold_rules.value
    }
  }

  all_updates_rule {
    pubsub_topic = google_pubsub_topic.budget[0].id
  }

  depends_on = [google_project_service.enabled]
}
