"""The adapter alone as a LoRA-GGUF: swapped over its base without loading it again, one for each task or user."""

from __future__ import annotations

import json
from pathlib import Path

from prlm_edge.backends import model_file
from prlm_edge.export.check import preflight
from prlm_edge.export.check.reference import make_reference, read_material
from prlm_edge.export.folder.staging import Staging
from prlm_edge.export.gguf import model as gguf
from prlm_edge.export.pipeline import Bars, Exported, publish, verify_gguf
from prlm_edge.export.source import Trained, Wanted
from prlm_edge.gguf import lora

_BASE = "base.gguf"


def export_adapter(source: Trained, wanted: Wanted, bars: Bars) -> Exported:
    """The adapter alone as a LoRA-GGUF, for hot swap over its base.

    Raises:
        PrlmError: See `export_gguf`; also what a LoRA-GGUF can't hold.
    """
    preflight.check(source.adapter, source.base, wanted.out.parent, ())
    staging, material = Staging(wanted.out), read_material(source, wanted.files, wanted.limit)
    config = json.loads((source.base / "config.json").read_text("utf-8"))
    file, inputs = f"{wanted.name}-lora.gguf", {"adapter": source.sha256, "base": source.base_sha256()}
    with bars("converting"):
        staging.step(
            "adapter",
            inputs,
            lambda: {
                "layers": lora.write_lora_gguf(
                    source.adapter,
                    config,
                    staging.folder / file,
                    reasons=source.reasons,
                    tasks=source.tasks,
                    dtype="f16",
                )
            },
            (file,),
        )
    with bars("verifying"):
        base_file, quant = _base_file(source, staging, wanted)
        report = verify_gguf(base_file, quant, make_reference(source, material), wanted, adapter=staging.folder / file)
    return publish(staging, source, wanted, "adapter", "lora-f16", report, [], {"over": base_file.name}, (_BASE,))


def _base_file(source: Trained, staging: Staging, wanted: Wanted) -> tuple[Path, str]:
    """The base as it is run, and its format's bounds; a Hugging Face folder is converted for the purpose."""
    if source.base_file is not None:
        file = model_file(source.recipe.base.model)
        return file, "q8_0"  # it is quantized, as its base was when it was trained
    about = gguf.About(source.base.name, False, wanted.licence)
    staging.step(
        "base",
        {"base": source.base_sha256()},
        lambda: gguf.write_gguf(source.base, staging.folder / _BASE, about),
        (_BASE,),
    )
    return staging.folder / _BASE, "f16"
