"""The merged model as one GGUF file, in a format that is named or chosen among several by measuring them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from prlm_edge.export.check import dev_rouge, preflight
from prlm_edge.export.check.reference import Material, make_reference, read_material
from prlm_edge.export.check.verify import Finding, Reference, Verification
from prlm_edge.export.folder.staging import Staging
from prlm_edge.export.gguf import imatrix, quantize
from prlm_edge.export.gguf import model as gguf
from prlm_edge.export.pipeline import MERGED, Bars, Exported, inputs_of, merge_nearest, publish, verify_gguf
from prlm_edge.export.source import Trained, Wanted

F16, IMATRIX, ANSWERS = "f16.gguf", "imatrix.npz", "answers"
AUTO = ("q8_0", "q5_k_m", "q4_k_m", "q4_0")
_IMATRIX_SEQUENCES = 16


def export_gguf(source: Trained, wanted: Wanted, bars: Bars) -> Exported:
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
    inputs = inputs_of(source, material, wanted)
    merging = merge_nearest(staging, source, material, inputs, bars)
    of = merging["base"]
    about = gguf.About(wanted.name, source.reasons, wanted.licence, source.base_name, source.tasks)
    folder = staging.folder
    with bars("converting"):
        made = {**inputs, "of": of, "name": wanted.name}
        staging.step("convert", made, lambda: gguf.write_gguf(folder / MERGED, folder / F16, about), (F16,))
    _quantize(staging, material, quants, made, bars)
    with bars("measuring"):
        reference = make_reference(source, material, of)
        rows = _measure(staging, reference, quants, made, material) if wanted.quant == "auto" else []
    rouge = _rouge(staging, source, wanted, quants, made, bars) if rows and wanted.rouge_users else {}
    rows = [replace(row, **rouge.get(row.quant, {})) for row in rows]
    quant = quantize.choose(rows, wanted.max_kl).quant if rows else wanted.quant
    with bars("verifying"):
        checks: list[Finding] = []
        for one in dict.fromkeys(("f16", quant)):
            found = verify_gguf(folder / _file(one), one, reference, wanted)
            checks += [replace(check, name=f"{one}: {check.name}") for check in found.checks]
        report = Verification(f"{wanted.name}-{quant}", tuple(checks))
    table = [{key: value for key, value in asdict(row).items() if value is not None} for row in rows]
    if rouge:  # to read the others by: the f16 file says what the trained model says, as was just verified
        table.append({"quant": "f16", "size": (folder / F16).stat().st_size, **rouge["f16"]})
    file = folder / f"{wanted.name}-{quant}.gguf"
    (folder / _file(quant)).replace(file)
    leave_out = (MERGED, IMATRIX, ANSWERS, *(_file(one) for one in ("f16", *quants)))
    return publish(staging, source, wanted, "llm", quant, report, table, merging, leave_out)


def _quantize(
    staging: Staging, material: Material, quants: Sequence[str], inputs: Mapping[str, Any], bars: Bars
) -> None:
    folder = staging.folder
    quants = [quant for quant in quants if quant not in ("f16", "f32")]
    weighed = [quant for quant in quants if quant != "q8_0"]  # q8_0 is the same with an importance matrix
    if weighed:
        with bars("measuring importances"):
            staging.step("imatrix", inputs, lambda: _imatrix(folder, material), (IMATRIX,))
    for quant in quants:

        def one(quant: str = quant) -> None:
            matrix = imatrix.load(folder / IMATRIX) if quant in weighed else None
            quantize.quantize(folder / F16, folder / _file(quant), quant, matrix)

        with bars(f"quantizing to {quant}"):
            staging.step(f"quantize {quant}", {**inputs, "quant": quant}, one, (_file(quant),))


def _imatrix(folder: Path, material: Material) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder / MERGED, dtype="float32", trust_remote_code=False)
    imatrix.save(folder / IMATRIX, imatrix.collect(model, material.sequences[-_IMATRIX_SEQUENCES:]))


def _measure(
    staging: Staging, reference: Reference, quants: Sequence[str], inputs: Mapping[str, Any], material: Material
) -> list[quantize.FormatRow]:
    """The rows of the table of formats without ROUGE; each is measured once."""
    prompt, rows = material.prompts[0].ids, []
    for quant in quants:

        def one(quant: str = quant) -> dict[str, Any]:
            file = staging.folder / _file(quant)
            return asdict(quantize.measured(quant, file, reference.probes, reference.said, prompt))

        rows.append(quantize.FormatRow(**staging.step(f"measure {quant}", {**inputs, "quant": quant}, one)))
    return rows


def _rouge(
    staging: Staging, source: Trained, wanted: Wanted, quants: Sequence[str], inputs: Mapping[str, Any], bars: Bars
) -> dict[str, dict[str, Any]]:
    """Dev ROUGE by format; "f16" stands for the trained model."""
    found: dict[str, dev_rouge.Scores] = {}
    for quant in ("f16", *quants):

        def one(quant: str = quant) -> dev_rouge.Scores:
            file, out = staging.folder / _file(quant), staging.folder / ANSWERS
            return dev_rouge.score(file, source.recipe, wanted.files, wanted.rouge_users, out)

        with bars(f"answering users with {quant}"):
            asked = {**inputs, "quant": quant, "users": wanted.rouge_users}
            found[quant] = staging.step(f"answer with {quant}", asked, one)
    return {quant: asdict(dev_rouge.summary(scores, found["f16"])) for quant, scores in found.items()}


def _file(quant: str) -> str:
    return f"{quant}.gguf"
