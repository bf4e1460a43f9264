"""`prlm-edge train`: the whole recipe, and a verb for every stage."""

from prlm_edge.cli.train.command import app

__all__ = ["app"]
