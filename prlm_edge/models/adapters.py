"""Which LoRA adapter settings mean: one by name or path, none, or the one that comes with prlm-edge.

Ours is trained to write in users' voices, for the default model. It is used with that model, as a copy into which it is
merged (`tuned_copy.py`), unless settings name another adapter; `generate --base`, or the setting adapter = "none",
leaves it out.
"""

from __future__ import annotations

from pathlib import Path

from prlm_edge.models import store
from prlm_edge.settings import Settings
from prlm_edge.storage import expanded

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


def adapter(name_or_path: str) -> Path:
    """The GGUF file of an adapter: an installed one's, or the path as it is (which need not exist).

    Raises:
        ModelError: The installed adapter is damaged.
    """
    export = None if Path(name_or_path).is_file() else store.installed_export(name_or_path)
    if export is None or export.kind != "adapter":
        return expanded(name_or_path)
    folder = store.models_dir() / export.name
    store.check(folder, export.name)
    return folder / export.files[0].name


def is_ours(settings: Settings) -> bool:
    """Whether the adapter in use is the one that came with prlm-edge."""
    return settings.adapter is None and not settings.base_url and ours_for(settings.model) is not None


def ours_for(model: str) -> Path | None:
    """Our adapter where it was trained on the model of that name, else None."""
    return ADAPTER if model in _MODELS and ADAPTER.is_file() else None
