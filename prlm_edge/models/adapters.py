"""Which LoRA adapter settings mean: one by name or path, none, or the one that comes with prlm-edge for their model.

Ours ("voices", `prlm_edge/assets/voices`) are trained to write as users do, each over one model. Such a model is run as
a copy into which its adapter is merged (`tuned_copy.py`), unless settings name another; `generate --base`, or the
setting adapter = "none", leaves it out.
"""

from __future__ import annotations

from pathlib import Path

from prlm_edge.models import store
from prlm_edge.models.catalog import named
from prlm_edge.models.choice import chosen
from prlm_edge.settings import Settings
from prlm_edge.storage import expanded

NONE = "none"  # the value of the setting `adapter` that means no adapter at all
OURS = "ours"  # what `train --adapter` calls the one that comes with prlm-edge


def adapter_of(settings: Settings) -> Path | None:
    """The file of the adapter that `settings` mean: the one they name, none, or our model's where they say nothing.

    Raises:
        ModelError: An installed adapter is damaged.
    """
    if settings.adapter == NONE:
        return None
    if settings.adapter:
        return adapter(settings.adapter)
    return None if settings.base_url else ours_for(chosen(settings).model)


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
    return settings.adapter is None and adapter_of(settings) is not None


def ours_for(model: str) -> Path | None:
    """Our adapter for the registry's model of that name or alias; None where there is none."""
    found = named(model)
    return found.voice if found else None
