"""The adapter that comes with prlm-edge: trained to write in users' voices, for the default model.

It is used with that model unless settings name another adapter; `generate --base`, or the setting adapter = "none",
leaves it out.
"""

from __future__ import annotations

from pathlib import Path

from prlm_edge.models.lookup import adapter
from prlm_edge.settings import Settings

ADAPTER = Path(__file__).parents[1] / "assets" / "voice" / "adapter.gguf"
NONE = "none"  # the value of the setting `adapter` that means no adapter at all
_MODELS = ("default", "smollm2-135m")  # the names of the model it was trained on


def adapter_of(settings: Settings) -> Path | None:
    """The file of the adapter that `settings` mean: the one they name, none, or ours where they say nothing.

    Raises:
        ModelError: An installed adapter is damaged.
    """
    if settings.adapter == NONE:
        return None
    if settings.adapter:
        return adapter(settings.adapter)
    return ADAPTER if is_ours(settings) else None


def is_ours(settings: Settings) -> bool:
    """Whether the adapter in use is the one that came with prlm-edge."""
    unnamed = settings.adapter is None and not settings.base_url and settings.model in _MODELS
    return unnamed and ADAPTER.is_file()
