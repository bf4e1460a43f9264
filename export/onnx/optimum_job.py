"""Run as a script, with what optimum.txt lists in front of the path: an encoder in a Hugging Face folder -> int8 ONNX.

    python optimum_job.py SOURCE OUT        OUT/f32/model.onnx, OUT/int8/model_quantized.onnx

Nothing of prlm-edge is imported: it would find other versions than its own.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(source: str, out: Path) -> None:
    """Export, then quantize weights to 8 bits with a scale a channel; activations are scaled as they come."""
    from optimum.exporters.onnx import main_export
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    main_export(
        source,
        output=out / "f32",
        task="feature-extraction",
        device="cpu",
        do_validation=False,
        local_files_only=True,
        trust_remote_code=False,
    )
    # 7 bits of weights (reduce_range): all 8 overflow on x86 without VNNI, as in train/reward/to_onnx.py
    how = AutoQuantizationConfig.avx2(is_static=False, per_channel=True, reduce_range=True, use_symmetric_weights=True)
    ORTQuantizer.from_pretrained(out / "f32").quantize(save_dir=out / "int8", quantization_config=how)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
