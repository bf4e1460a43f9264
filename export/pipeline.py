"""An export from the run to the published folder, stage by stage; what fails verification is kept aside.

    OUT/NAME-QUANT.gguf  export.json  README.md  verification.json

Not here: the stages' own work (`merge.py`, `gguf.py`, `quantize.py`, `adapter.py`, `verify.py`), options
(`cli/export.py`).
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from prlm_edge import models
from prlm_edge.backends.llamacpp import LlamaCpp
from prlm_edge.errors import ModelError
from prlm_edge.export import adapter as lora
from prlm_edge.export import card, gguf, imatrix, manifest, measure, merge, preflight, quantize
from prlm_edge.export.reference import Material, make_reference, read_material
from prlm_edge.export.source import Source
from prlm_edge.export.staging import Staging
from prlm_edge.export.verify import BOUNDS, MIN_STOPPED, Check, Reference, Report, verify
from prlm_edge.storage import atomic_write

F16, MERGED, IMATRIX, FIGURES = "f16.gguf", "merged", "imatrix.npz", "verification.json"
AUTO = ("q8_0", "q5_k_m", "q4_k_m", "q4_0")
MAX_KL = 0.02  # of the format that `auto` chooses
WORST_MERGE = 0.02  # KL of the nearer merge base; bfloat16's own noise is a tenth of it
_IMATRIX_SEQUENCES = 16
Bars = Callable[[str], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Wanted:
    """What is asked for.

    Attributes:
        out: The folder to publish.
        name: The model's name.
        quant: A format, or "auto".
        files: Data to hold the export to.
        limit: Users of each file.
        licence: SPDX identifier of the result.
        attribution: Markdown for the model card.
        max_kl: What `auto` allows.
        min_stopped: Share of answers that must end by themselves.
    """

    out: Path
    name: str
    quant: str
    files: tuple[str, ...]
    limit: int = 60
    licence: str = "Apache-2.0"
    attribution: str = ""
    max_kl: float = MAX_KL
    min_stopped: float = MIN_STOPPED


@dataclass(frozen=True)
class Exported:
    """What an export ended in: its folder (published, or kept aside where `report` is not ok), and the format."""

    folder: Path
    quant: str
    report: Report
    table: list[dict[str, Any]]


def export_gguf(source: Source, wanted: Wanted, bars: Bars) -> Exported:
    """The merged model as one GGUF file.

    Args:
        source: The trained adapter.
        wanted: What is asked for.
        bars: Shows which stage is under way.

    Raises:
        PrlmError: It can't be exported; the message says why. What is done stays for the next call.
    """
    quants = AUTO if wanted.quant == "auto" else (wanted.quant,)
    preflight.check(source.adapter, source.base, wanted.out.parent, ("f16", *quants))
    staging, material = Staging(wanted.out), read_material(source, wanted.files, wanted.limit)
    inputs = {"adapter": source.sha256, "base": source.base_sha256(), "data": material.sha256, "limit": wanted.limit}
    merging = _merge(staging, source, material, inputs, bars)
    of = merging["base"]
    about = gguf.About(wanted.name, source.reasons, wanted.licence, inputs["base"][:16])
    folder = staging.folder
    with bars("converting"):
        made = {**inputs, "of": of, "name": wanted.name}
        staging.step("convert", made, lambda: gguf.write_gguf(folder / MERGED, folder / F16, about), (F16,))
    _quantize(staging, material, quants, made, bars)
    with bars("measuring"):
        reference = make_reference(source, material, of)
        table = _measure(staging, reference, quants, made, material) if wanted.quant == "auto" else []
    rows = [quantize.Candidate(**row) for row in table]
    quant = quantize.choose(rows, wanted.max_kl).quant if rows else wanted.quant
    with bars("verifying"):
        checks: list[Check] = []
        for one in dict.fromkeys(("f16", quant)):
            found = _verify(folder / _file(one), one, reference, wanted)
            checks += [replace(check, name=f"{one}: {check.name}") for check in found.checks]
        report = Report(f"{wanted.name}-{quant}", tuple(checks))
    file = folder / f"{wanted.name}-{quant}.gguf"
    (folder / _file(quant)).replace(file)
    leave_out = (MERGED, IMATRIX, *(_file(one) for one in ("f16", *quants)))
    return _publish(staging, source, wanted, "llm", quant, report, table, merging, leave_out)


def export_adapter(source: Source, wanted: Wanted, bars: Bars) -> Exported:
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
            lambda: lora.write_lora_gguf(
                source.adapter, config, staging.folder / file, reasons=source.reasons, dtype="f16"
            ),
            (file,),
        )
    with bars("verifying"):
        base_file, quant = _base_file(source, staging, wanted)
        report = _verify(base_file, quant, make_reference(source, material), wanted, adapter=staging.folder / file)
    return _publish(staging, source, wanted, "adapter", "lora-f16", report, [], {"over": base_file.name}, (F16,))


def _merge(
    staging: Staging, source: Source, material: Material, inputs: Mapping[str, Any], bars: Bars
) -> dict[str, Any]:
    """Choose the merge base and merge; what was chosen, with its figures."""
    config, folder, found = source.recipe.base, staging.folder, {}

    def measured() -> None:
        choice = merge.choose(source.base, source.adapter, config, material.probes)
        found.update(base=choice.base, **{f"kl_{of}": one.kl for of, one in choice.found.items()})

    with bars("choosing what to merge into"):
        chosen = staging.step("choose base", {**inputs, "trained": config.precision}, measured, note=lambda: found)
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


def _quantize(
    staging: Staging, material: Material, quants: Sequence[str], inputs: Mapping[str, Any], bars: Bars
) -> None:
    folder, key = staging.folder, json.dumps(inputs, sort_keys=True)
    for quant in quants:
        if quant in ("f16", "f32"):
            continue
        target = folder / _file(quant)

        def one(quant: str = quant, target: Path = target) -> None:
            weighed = quant != "q8_0"  # to which importance makes no difference
            matrix = imatrix.cached(folder / IMATRIX, key, lambda: _imatrix(folder, material)) if weighed else None
            quantize.quantize(folder / F16, target, quant, matrix)

        with bars(f"quantizing to {quant}"):
            staging.step(f"quantize {quant}", {**inputs, "quant": quant}, one, (target.name,))


def _imatrix(folder: Path, material: Material) -> imatrix.Matrix:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder / MERGED, dtype="float32")
    return imatrix.collect(model, material.sequences[-_IMATRIX_SEQUENCES:])


def _measure(
    staging: Staging, reference: Reference, quants: Sequence[str], inputs: Mapping[str, Any], material: Material
) -> list[dict[str, Any]]:
    """The table of formats, each measured once."""
    prompt, rows = material.prompts[0].ids, []
    for quant in quants:
        found: dict[str, Any] = {}

        def one(quant: str = quant, found: dict[str, Any] = found) -> None:
            file = staging.folder / _file(quant)
            found.update(asdict(quantize.measured(quant, file, reference.probes, reference.said, prompt)))

        rows.append(staging.step(f"measure {quant}", {**inputs, "quant": quant}, one, note=lambda found=found: found))
    return rows


def _verify(file: Path, quant: str, reference: Reference, wanted: Wanted, adapter: Path | None = None) -> Report:
    backend = LlamaCpp(file, prefix_cache="off", adapter=adapter)
    try:
        said = measure.gguf_logprobs(file, reference.probes, adapter)
        what = (adapter or file).name
        return verify(what, backend, said, reference, BOUNDS[quant], min_stopped=wanted.min_stopped)
    finally:
        backend.close()


def _base_file(source: Source, staging: Staging, wanted: Wanted) -> tuple[Path, str]:
    """The base as it is run, and its format's bounds; a Hugging Face folder is converted for the purpose."""
    if source.base_file is not None:
        file = models.resolve(source.recipe.base.model, make=True)
        return file, "q8_0"  # it is quantized, as its base was when it was trained
    about = gguf.About(source.base.name, False, wanted.licence)
    staging.step(
        "base",
        {"base": source.base_sha256()},
        lambda: gguf.write_gguf(source.base, staging.folder / F16, about),
        (F16,),
    )
    return staging.folder / F16, "f16"


def _publish(
    staging: Staging,
    source: Source,
    wanted: Wanted,
    kind: str,
    format_: str,
    report: Report,
    table: list[dict[str, Any]],
    merging: Mapping[str, Any],
    leave_out: Sequence[str],
) -> Exported:
    with atomic_write(staging.folder / FIGURES) as stream:
        stream.write(json.dumps(report.as_dict(), indent=1).encode())
    if not report.ok:
        return Exported(staging.set_aside(tuple(leave_out)), format_, report, table)
    kept = [path for path in staging.folder.iterdir() if path.name not in (*leave_out, "stages.json")]
    made = manifest.make(
        source,
        kept,
        name=wanted.name,
        kind=kind,
        format_=format_,
        report=report,
        licence=wanted.licence,
        attribution=wanted.attribution,
        merge=merging,
        table=table,
    )
    with atomic_write(staging.folder / "README.md") as stream:
        stream.write(card.write_card(made).encode())
    manifest.write(staging.folder, made)
    return Exported(staging.publish(tuple(leave_out)), format_, report, table)


def _file(quant: str) -> str:
    return f"{quant}.gguf"
