"""Publishing: every user's best items as files that other systems read."""
