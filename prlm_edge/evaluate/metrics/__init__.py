"""Metrics of an answer against what the user wrote and against the profile."""
