"""`prlm-edge doctor`: what is installed, what is missing, and the command that mends it."""

from prlm_edge.cli.doctor.command import app

__all__ = ["app"]
