"""The export's folder: staging, manifest, model card."""
