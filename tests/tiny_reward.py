"""A reward model of some kilobytes as `RewardScorer` reads it: a real tokenizer and ONNX file, random weights."""

from __future__ import annotations

import json
import string
from pathlib import Path

import numpy as np

from prlm_edge.models.store import hash_file
from prlm_edge.rerank.reward.encoder import ENCODING
from prlm_edge.rerank.reward.scorer import CARD

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
MAX_LENGTH = 128


def make_reward_model(folder: Path, sign: float = 1.0) -> Path:
    """Write one that sums a weight a token, those of the answer's side counting most; `sign` -1 turns its order."""
    folder.mkdir(parents=True)
    size = write_tokenizer(folder / "tokenizer.json")
    _write_model(folder / "model.onnx", sign * np.random.default_rng(1).normal(size=size))
    hashes = {name: hash_file(folder / name) for name in ("model.onnx", "tokenizer.json")}
    card = {"encoding": ENCODING, "max_length": MAX_LENGTH, "layers": 0, "sha256": hashes}
    (folder / CARD).write_text(json.dumps(card))
    return folder


def write_tokenizer(path: Path) -> int:
    """A BERT tokenizer that makes letters of words; returns how many tokens it knows."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    letters = string.ascii_lowercase + string.digits + string.punctuation
    tokens = [*SPECIAL, *letters, *("##" + letter for letter in letters)]
    tokenizer = Tokenizer(models.WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.save(str(path))
    return len(tokens)


def _write_model(path: Path, weights: np.ndarray) -> None:
    from onnx import TensorProto, checker, helper, numpy_helper, save

    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "tokens"]) for name in names]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["texts", 1])
    constants = {"weights": weights.astype(np.float32), "base": np.float32([0.1]), "axis": np.int64([1])}
    steps = [
        ("Gather", ["weights", "input_ids"], "each"),
        ("CastLike", ["token_type_ids", "each"], "is_answer"),
        ("Add", ["is_answer", "base"], "counts"),
        ("CastLike", ["attention_mask", "each"], "is_text"),
        ("Mul", ["each", "counts"], "counted"),
        ("Mul", ["counted", "is_text"], "all"),
        ("ReduceSum", ["all", "axis"], "logits"),
    ]
    graph = helper.make_graph(
        [helper.make_node(kind, given, [made]) for kind, given, made in steps],
        "reward",
        inputs,
        [output],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    save(model, path)
