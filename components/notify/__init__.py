"""Notification: reporting to a channel how a run ended."""
