"""Models as files: which there are, where an installed one lies, fetching, installing, hashing.

Nothing here loads a model (`prlm_edge.backends` does that), and only `pull` uses the network.
"""

from prlm_edge.models.adapters import adapter
from prlm_edge.models.catalog import Model, ModelFile, Progress, registry
from prlm_edge.models.fetch import pull
from prlm_edge.models.hashes import sha256_of
from prlm_edge.models.lookup import find, is_path, resolve

__all__ = [
    "Model",
    "ModelFile",
    "Progress",
    "adapter",
    "find",
    "is_path",
    "pull",
    "registry",
    "resolve",
    "sha256_of",
]
