"""The student as the device runs it: an int8 ONNX file with its tokenizer and a card, proven equal enough.

Weights are 8-bit with a scale a channel; activations are scaled as they come (dynamic quantization). Weights use 7 of
the bits: on x86 without VNNI, ONNX Runtime's kernels overflow with all 8, and unsigned weights, which do not, are half
as slow again (10.1 ms a pair against 6.4; 3 layers, 96 tokens, one core).
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BertForSequenceClassification

from prlm_edge.errors import ModelError, UsageError
from prlm_edge.models.store import hash_file
from prlm_edge.rerank.reward.encoder import ENCODING, Encoded, Encoder
from prlm_edge.rerank.reward.scorer import CARD, RewardScorer
from prlm_edge.storage import new_folder, write_json
from prlm_edge.train.reward.batches import pad
from prlm_edge.train.reward.model import load_trained, score
from prlm_edge.train.reward.pairs import Pair

MIN_CORRELATION = 0.98
MIN_AGREEMENT = 0.95
_CLEAR = 0.1  # of the spread of scores: a smaller margin counts as a tie


@dataclass(frozen=True)
class Parity:
    """The int8 model against the float32 one, on the same texts.

    Attributes:
        correlation: Pearson's, of all scores; 0 where either side is constant.
        agreement: Share of pairs that both put in the same order, of those whose float32 margin is no mere tie.
        worst: Largest float32 margin of a pair that int8 puts in the other order; 0 where there is none.
        largest: Largest difference of a score.
        spread: Standard deviation of the float32 scores.
        n_pairs: Pairs compared.
    """

    correlation: float
    agreement: float
    worst: float
    largest: float
    spread: float
    n_pairs: int


def export(
    student: Path,
    out: Path,
    pairs: Sequence[Pair],
    *,
    max_length: int,
    about: Mapping[str, Any] | None = None,
    min_correlation: float = MIN_CORRELATION,
    min_agreement: float = MIN_AGREEMENT,
) -> Parity:
    """Write model.onnx, tokenizer.json and reward.json into `out`, which appears whole or not at all.

    Args:
        student: A trained model's folder.
        out: Replaced.
        pairs: Real ones, to compare by; some hundred.
        max_length: Tokens that it was trained on.
        about: More for reward.json, such as figures.
        min_correlation: Refused below.
        min_agreement: Refused below.

    Raises:
        ModelError: The int8 model differs by more than the bounds; nothing was written.
        UsageError: No pairs.
        PrlmError: The disk is full.
    """
    if not pairs:
        raise UsageError("no pairs to compare the int8 model by", "give it real ones")
    with new_folder(out) as work:
        model = load_trained(student)
        card = {**(about or {}), "layers": model.config.num_hidden_layers}
        shutil.copyfile(student / "tokenizer.json", work / "tokenizer.json")
        encoder = Encoder(work / "tokenizer.json", max_length)
        samples = [encoder.encode(pairs[0].context, text) for text in (pairs[0].chosen, "x")]  # of different lengths
        _write_int8(model, samples, work / "model.onnx")
        _write_card(work, max_length, card)
        found = compare(model, RewardScorer(work), pairs)
        if found.correlation < min_correlation or found.agreement < min_agreement:
            said = f"correlation {found.correlation:.3f}, pairs in the same order {found.agreement:.3f}"
            raise ModelError(
                f"the int8 reward model is not the trained one: {said}",
                f"wanted are {min_correlation} and {min_agreement}: train it longer, or with more layers",
            )
        _write_card(work, max_length, {**card, "parity": asdict(found)})
    return found


def add_to_card(folder: Path, more: Mapping[str, Any]) -> None:
    """Write `more` into the card of an exported model, in one step."""
    card = {**json.loads((folder / CARD).read_bytes()), **more}
    write_json(folder / CARD, card)


def compare(model: BertForSequenceClassification, scorer: RewardScorer, pairs: Sequence[Pair]) -> Parity:
    """Compare the scores of the float32 model with those of the exported one."""
    asks = [(pair.context, pair.chosen) for pair in pairs] + [(pair.other, pair.rejected) for pair in pairs]
    theirs = np.array(scorer.score_all(asks))
    ours = score(model, [scorer.encoder.encode(*ask) for ask in asks]).astype(np.float64)
    n = len(pairs)
    margins = ours[:n] - ours[n:]
    same = np.sign(margins) == np.sign(theirs[:n] - theirs[n:])
    worst = float(np.abs(margins[~same]).max(initial=0.0))
    largest = float(np.abs(ours - theirs).max())
    clear = np.abs(margins) >= _CLEAR * ours.std()
    agreement = float(same[clear].mean()) if clear.any() else 0.0
    spread = float(ours.std())
    alike = float(np.corrcoef(ours, theirs)[0, 1]) if spread and theirs.std() else 0.0
    return Parity(alike, agreement, worst, largest, spread, n)


def _write_int8(model: BertForSequenceClassification, samples: Sequence[Encoded], path: Path) -> None:
    """Export with any number of texts and tokens, then quantize."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from transformers.exporters.exporter_onnx import OnnxConfig, OnnxExporter

    inputs: dict[str, torch.Tensor] = pad(samples, 0)
    whole = path.with_name("float32")
    try:
        with _quiet():
            OnnxExporter().export(model, inputs, config=OnnxConfig(dynamic=True)).save_pretrained(whole)
            quantize_dynamic(
                whole / "model.onnx", path, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True
            )
    finally:
        shutil.rmtree(whole, ignore_errors=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence exporter and quantizer, which print their steps and advice."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _write_card(folder: Path, max_length: int, about: Mapping[str, Any]) -> None:
    hashes = {name: hash_file(folder / name) for name in ("model.onnx", "tokenizer.json")}
    card = {**about, "encoding": ENCODING, "max_length": max_length, "sha256": hashes}
    write_json(folder / CARD, card)
