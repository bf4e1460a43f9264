"""Sentence embeddings with onnxruntime: MiniLM's ONNX file and its tokenizer, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from prlm_edge.cpu import usable_cores
from prlm_edge.errors import ModelError, first_line
from prlm_edge.models import sha256_of

MAX_TOKENS = 128  # what the model was trained on; a title and the start of a text tell what it is about
MAX_CHARS = 5000  # no text needs more for its first 128 tokens
MAX_THREADS = 8
_VERSION = "1"  # of what `embed` does around the model


class Embedder(Protocol):
    """Turns texts into vectors.

    Attributes:
        key: Hex digits that change whenever the vectors would.
        dim: Length of a vector.
    """

    key: str
    dim: int

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors of the texts, shape (texts, dim)."""
        ...


class OnnxEmbedder:
    """Mean over the last hidden state of a BERT-like ONNX model, scaled to length 1.

    Each text runs alone on one thread, several at a time: measured faster than padded batches on several threads, and
    a vector depends on its text alone.

    Args:
        folder: Holds model.onnx and tokenizer.json.
        threads: Texts embedded at a time; 0 takes the CPUs this process may use, at most `MAX_THREADS`.

    Raises:
        ModelError: The files can't be loaded.
    """

    def __init__(self, folder: Path, threads: int = 0) -> None:
        model, tokenizer = folder / "model.onnx", folder / "tokenizer.json"
        shas = f"{sha256_of(model)} {sha256_of(tokenizer)} {MAX_TOKENS} {_VERSION}"
        self.key = sha256(shas.encode()).hexdigest()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
            self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # both libraries raise bare Exception or classes of their own
            reason = f"{folder}: can't load the embedder: {first_line(error)}"
            raise ModelError(reason, "prlm-edge model verify minilm") from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._inputs = {entry.name for entry in self._session.get_inputs()}
        self.dim = int(self._session.get_outputs()[0].shape[-1])
        self._threads = threads or min(usable_cores(), MAX_THREADS)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors of the texts, shape (texts, dim). Each text's first `MAX_TOKENS` tokens count."""
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        if len(texts) == 1:
            return self._one(texts[0])[None]
        with ThreadPoolExecutor(min(self._threads, len(texts))) as pool:
            return np.stack(list(pool.map(self._one, texts)))

    def _one(self, text: str) -> NDArray[np.float32]:
        clean = text[:MAX_CHARS].encode("utf-8", "replace").decode()  # the tokenizer refuses lone surrogates
        ids = np.array([self._tokenizer.encode(clean).ids], np.int64)
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        hidden = self._session.run(None, {name: feeds[name] for name in self._inputs})[0]
        mean = np.asarray(hidden, np.float32)[0].mean(axis=0)  # no padding, so every token counts
        unit: NDArray[np.float32] = mean / np.linalg.norm(mean)
        return unit


def open_embedder(folder: Path) -> OnnxEmbedder:
    """The embedder in `folder`; the one opened last is used again while its file is the same.

    Raises:
        ModelError: The files can't be loaded.
    """
    status = (folder / "model.onnx").stat()
    return _opened(folder, (status.st_ino, status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=1)
def _opened(folder: Path, _version: tuple[int, ...]) -> OnnxEmbedder:
    return OnnxEmbedder(folder)
