"""Holding an export to the trained model."""
