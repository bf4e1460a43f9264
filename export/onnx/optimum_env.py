"""Optimum's ONNX exporter, for encoders: a sentence embedder in a Hugging Face folder -> an int8 ONNX folder.

optimum-onnx needs an older Transformers than training does. So what optimum.txt lists is installed, without
dependencies, into a folder of the cache, and added to this environment in a process of its own: torch and ONNX Runtime
are shared, and nothing that training uses changes. That Transformers would misread a language model's config (its
rotary base is named otherwise there), so language models take `model.py`; encoders such as BERT have none.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from prlm_edge.errors import MissingError, ModelError, UsageError
from prlm_edge.storage import cache_dir, locked, new_folder, own_dir

REQUIREMENTS, JOB = (Path(__file__).with_name(name) for name in ("optimum.txt", "optimum_job.py"))
MIN_COSINE = 0.97
_TEXTS = (
    "rye wins: three flours",
    "The allotment flooded again, so we dug a drain.",
    "fix: the parser's last line",
    "x",
)


def prepare() -> Path:
    """The folder to lay over this environment; filled by pip where it isn't there yet.

    Raises:
        MissingError: pip can't fetch the packages.
        PrlmError: The disk is full.
    """
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = own_dir(cache_dir() / "optimum") / digest
    with locked(folder):
        if not folder.exists():
            with new_folder(folder) as work:
                _install(work)
    return folder


def export_encoder(source: Path, target: Path, *, min_cosine: float = MIN_COSINE) -> float:
    """Export the encoder in `source` as int8: model.onnx and its tokenizer.json, as `prlm_edge.retrieve` reads them.

    Args:
        source: A Hugging Face folder of a BERT-like encoder, with tokenizer.json.
        target: A folder that isn't there yet; it appears whole or not at all.
        min_cosine: Refused below: the smallest cosine between its vectors and PyTorch's.

    Returns:
        That cosine.

    Raises:
        UsageError: `target` is there, or no encoder in `source`.
        MissingError: pip can't fetch optimum.
        ModelError: optimum can't export it, or its vectors are others.
        PrlmError: The disk is full.
    """
    if target.exists():
        raise UsageError(f"{target}: there already", "choose another folder, or delete it")
    if not all((source / name).is_file() for name in ("config.json", "tokenizer.json")):
        raise UsageError(f"{source}: no encoder in it", "name a folder with config.json, tokenizer.json and weights")
    environment = prepare()
    with new_folder(target) as work, tempfile.TemporaryDirectory(dir=work) as made:
        _run(environment, source, Path(made))
        (Path(made) / "int8" / "model_quantized.onnx").replace(work / "model.onnx")
        for name in ("tokenizer.json", "config.json", "LICENSE"):
            if (source / name).is_file():
                shutil.copyfile(source / name, work / name)
        found = _cosine(source, work)
        if found < min_cosine:
            raise ModelError(
                f"{source}: as int8 its vectors differ: smallest cosine {found:.3f}",
                f"wanted is {min_cosine}: this model does not stand 8 bits",
            )
    return found


def _install(folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--disable-pip-version-check"]
    command += ["--target", str(folder), "-r", str(REQUIREMENTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingError(f"pip can't install optimum: {_last(done.stderr)}", "is there a network? then try again")


def _run(environment: Path, source: Path, work: Path) -> None:
    # -P: the script's own folder, where modules of ours lie, is not searched
    command = [sys.executable, "-P", str(JOB), str(source.resolve()), str(work.resolve())]
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONPATH": str(environment)}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **offline}, check=False)
    if done.returncode:
        raise ModelError(f"{source}: optimum can't export it: {_last(done.stderr)}", "is it a whole encoder?")


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no reason given"


def _cosine(source: Path, exported: Path) -> float:
    """The smallest cosine between the vectors that the runtime makes and PyTorch's, over texts of several lengths."""
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModel

    from prlm_edge.retrieve.dense.embedder import OnnxEmbedder

    model: Any = AutoModel.from_pretrained(source, trust_remote_code=False, dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.no_padding()
    smallest = 1.0
    for text, ours in zip(_TEXTS, OnnxEmbedder(exported, 1).embed(_TEXTS), strict=True):
        with torch.no_grad():
            mean = model(torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0].mean(0)
        smallest = min(smallest, float(mean.numpy() @ ours) / float(mean.norm()))
    return smallest
