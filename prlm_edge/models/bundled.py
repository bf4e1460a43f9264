"""What prlm-edge brings for its default model: an adapter trained to write in users' voices.

It is laid over that model wherever nothing else is said; `generate --base`, or the setting adapter = "none", leaves it
out. Not here: the reward model (`rerank/lazy_reward.py`), training either (`prlm_edge.train`).
"""

from __future__ import annotations

from pathlib import Path

from prlm_edge import models
from prlm_edge.settings import Settings

ADAPTER = Path(__file__).parents[1] / "assets" / "voice" / "adapter.gguf"
NONE = "none"  # as an adapter: none at all
_MODELS = ("default", "smollm2-135m")  # whose weights it was trained over


def adapter_of(settings: Settings) -> Path | None:
    """The file of the adapter that `settings` mean: the one they name, none, or ours where they leave it open.

    Raises:
        ModelError: An installed adapter is damaged.
    """
    if settings.adapter == NONE:
        return None
    if settings.adapter:
        return models.adapter(settings.adapter)
    return ADAPTER if is_ours(settings) else None


def is_ours(settings: Settings) -> bool:
    """Whether the adapter in use is the one that came with prlm-edge."""
    open_ = settings.adapter is None and not settings.base_url and settings.model in _MODELS
    return open_ and ADAPTER.is_file()
