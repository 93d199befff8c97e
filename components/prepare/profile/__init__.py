"""Profiles of the interactions, and the contract that detects drift."""
