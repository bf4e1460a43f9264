"""The merged model in ONNX format, for `prlm_edge.backends.onnx.backend`."""

from __future__ import annotations

import shutil

from prlm_edge.backends.onnx.backend import Onnx
from prlm_edge.export.check import preflight
from prlm_edge.export.check.reference import make_reference, read_material
from prlm_edge.export.check.verify import BOUNDS, verify
from prlm_edge.export.folder.staging import Staging
from prlm_edge.export.onnx import model as onnx
from prlm_edge.export.pipeline import MERGED, Bars, Exported, inputs_of, merge_nearest, publish
from prlm_edge.export.source import Trained, Wanted

_BUILT = "built"


def export_onnx(source: Trained, wanted: Wanted, bars: Bars) -> Exported:
    """The merged model as a folder with an ONNX graph and its tokenizer.

    Args:
        source: The trained adapter.
        wanted: What is asked for; `quant` is one of `onnx.FORMATS`.
        bars: Shows which stage is under way.

    Raises:
        PrlmError: It can't be exported; the message says why. What is done stays for the next call.
    """
    preflight.check(source.adapter, source.base, wanted.out.parent, ("f16", wanted.quant))
    staging, material = Staging(wanted.out), read_material(source, wanted.files, wanted.limit)
    inputs = inputs_of(source, material, wanted)
    merging = merge_nearest(staging, source, material, inputs, bars)
    folder, of, built = staging.folder, merging["base"], staging.folder / _BUILT

    def build() -> None:
        shutil.rmtree(built, ignore_errors=True)
        onnx.export_onnx(
            folder / MERGED, built, quant=wanted.quant, reasons=source.reasons, about={"tasks": source.tasks}
        )

    with bars("building the graph"):
        staging.step("onnx", {**inputs, "of": of, "quant": wanted.quant}, build, (_BUILT,))
    with bars("verifying"):
        reference, backend = make_reference(source, material, of), Onnx(built, prefix_cache="off")
        try:
            said = onnx.onnx_logprobs(built, reference.probes)
            bounds = BOUNDS[wanted.quant]
            report = verify(wanted.name, backend, said, reference, bounds, min_stopped=wanted.min_stopped)
        finally:
            backend.close()
    for path in built.iterdir():
        path.replace(folder / path.name)
    return publish(staging, source, wanted, "onnx-llm", wanted.quant, report, [], merging, (MERGED, _BUILT))
