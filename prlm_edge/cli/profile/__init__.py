"""`prlm-edge profile`: add, import, list, show, stats, verify, repair, rm."""

from prlm_edge.cli.profile import command, importers, removal, upkeep
from prlm_edge.cli.profile.common import app

__all__ = ["app", "command", "importers", "removal", "upkeep"]
