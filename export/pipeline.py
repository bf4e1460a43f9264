"""What all exports share: merging into the nearer base, verification of a file, publishing what passed it.

    OUT/<the model's files>  export.json  README.md  verification.json

What failed its verification is kept aside as OUT.failed.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prlm_edge.backends.llama.backend import LlamaCpp
from prlm_edge.errors import ModelError
from prlm_edge.export import measure, merge
from prlm_edge.export.check.reference import Material
from prlm_edge.export.check.verify import BOUNDS, Reference, Verification, verify
from prlm_edge.export.folder import card, manifest
from prlm_edge.export.folder.staging import STAGES, Staging
from prlm_edge.export.source import Trained, Wanted
from prlm_edge.storage import atomic_write

MERGED, FIGURES = "merged", "verification.json"
WORST_MERGE = 0.02  # KL of the nearer merge base; bfloat16's own noise is a tenth of it
Bars = Callable[[str], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Exported:
    """The result of an export: its folder (published, or kept aside if `report` is not ok), and the format."""

    folder: Path
    quant: str
    report: Verification
    table: list[dict[str, Any]]


def inputs_of(source: Trained, material: Material, wanted: Wanted) -> dict[str, Any]:
    """Everything that decides the outcome of an export's first stages."""
    return {
        "adapter": source.sha256,
        "base": source.base_sha256(),
        "data": material.sha256,
        "limit": wanted.limit,
    }


def merge_nearest(
    staging: Staging, source: Trained, material: Material, inputs: Mapping[str, Any], bars: Bars
) -> dict[str, Any]:
    """Choose the merge base and merge into `MERGED`; what was chosen, with its figures.

    Raises:
        ModelError: Neither base gives the trained policy.
    """
    config, folder = source.recipe.base, staging.folder

    def measured() -> dict[str, Any]:
        choice = merge.choose(source.base, source.adapter, config, material.probes)
        return {"base": choice.base, **{f"kl_{of}": one.kl for of, one in choice.found.items()}}

    with bars("choosing what to merge into"):
        chosen = staging.step("choose base", {**inputs, "trained": config.precision}, measured)
    of, nearest = chosen["base"], min(value for key, value in chosen.items() if key.startswith("kl_"))
    if not nearest <= WORST_MERGE:
        raise ModelError(
            f"merged into either base it is another policy (KL {nearest:.4f})",
            "export it with the base it was trained on",
        )
    with bars("merging"):
        staging.step(
            "merge",
            {**inputs, "of": of},
            lambda: merge.merge(source.base, source.adapter, folder / MERGED, of),
            (MERGED,),
        )
    gc.collect()
    return chosen


def verify_gguf(
    file: Path, quant: str, reference: Reference, wanted: Wanted, adapter: Path | None = None
) -> Verification:
    """Compare a GGUF file, or an adapter over it, with the trained model."""
    backend = LlamaCpp(file, prefix_cache="off", adapter=adapter)
    try:
        said = measure.gguf_logprobs(file, reference.probes, adapter)
        what = (adapter or file).name
        return verify(what, backend, said, reference, BOUNDS[quant], min_stopped=wanted.min_stopped)
    finally:
        backend.close()


def publish(
    staging: Staging,
    source: Trained,
    wanted: Wanted,
    kind: str,
    format_: str,
    report: Verification,
    table: list[dict[str, Any]],
    merging: Mapping[str, Any],
    leave_out: Sequence[str],
) -> Exported:
    """Publish what passed its verification, with manifest and model card; set aside what did not."""
    with atomic_write(staging.folder / FIGURES) as stream:
        stream.write(json.dumps(report.as_dict(), indent=1).encode())
    if not report.ok:
        return Exported(staging.set_aside(tuple(leave_out)), format_, report, table)
    kept = [path for path in staging.folder.iterdir() if path.name not in (*leave_out, STAGES)]
    made = manifest.make(source, wanted, kept, kind, format_, report, merging, table)
    with atomic_write(staging.folder / "README.md") as stream:
        stream.write(card.write_card(made).encode())
    manifest.write(staging.folder, made)
    return Exported(staging.publish(tuple(leave_out)), format_, report, table)
