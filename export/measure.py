"""How far what one form of a model says is from what another says: KL divergence, top token, perplexity, speed.

The reference is the trained model in PyTorch. Distributions are compared at chosen positions of real token sequences
(`probes`) only: those of every position would take 200 KB each. The same measures serve GGUF files (`compare_gguf`) and
whatever else yields log-probabilities (`compare`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prlm_edge.backends.llama import lib as llama_lib
from prlm_edge.backends.llama.adapter import Adapter
from prlm_edge.backends.llama.slots import LlamaSlots, Threads, Weights
from prlm_edge.cpu import default_threads
from prlm_edge.errors import ModelError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BATCH = 512
TIE_NATS = 0.05  # a top token that the reference likes this little less than its own is a tie


@dataclass(frozen=True)
class Probe:
    """A token sequence and where in it distributions are compared.

    Attributes:
        ids: Token ids, with the beginning-of-sequence token where the model wants one.
        at: Positions, ascending; position p gives the distribution of token p + 1, which `ids` holds too.
    """

    ids: tuple[int, ...]
    at: tuple[int, ...]


@dataclass(frozen=True)
class Agreement:
    """What a comparison found, over all positions of all probes.

    Attributes:
        kl: Mean KL(reference || other) in nats.
        kl_max: The largest of a single position.
        top1: Share of positions where both like the same token best.
        top1_tied: The same, ties of the reference (`TIE_NATS`) allowed for.
        perplexity: The other's, of the tokens that stand there.
        reference_perplexity: The reference's.
        positions: How many.
    """

    kl: float
    kl_max: float
    top1: float
    top1_tied: float
    perplexity: float
    reference_perplexity: float
    positions: int


@dataclass(frozen=True)
class Speed:
    """Tokens a second of a prompt's evaluation, and of decoding one sequence."""

    prompt_tps: float
    decode_tps: float


def probes(sequences: Iterable[Sequence[int]], per_sequence: int = 16) -> list[Probe]:
    """Each sequence with its last `per_sequence` positions: in a training example, those of the answer.

    Raises:
        UsageError: No sequence of two tokens or more.
    """
    found = []
    for ids in sequences:
        last = len(ids) - 1
        if last > 0:
            found.append(Probe(tuple(ids), tuple(range(max(0, last - per_sequence), last))))
    if not found:
        raise UsageError("no token sequences to compare models on", "check the data")
    return found


def hf_logprobs(model: Any, wanted: Iterable[Probe]) -> Iterator[NDArray[np.float32]]:
    """Log-probabilities of a Transformers (or PEFT) causal LM, an array [positions, vocabulary] for each probe.

    The model is put into eval mode; NF4 models must be guarded (`train.base.keep_gradients_right`).
    """
    import torch

    model.eval()
    for probe in wanted:
        with torch.no_grad():
            ids = torch.tensor([probe.ids], device=model.device)
            keep = torch.tensor(probe.at, device=model.device)
            logits = model(ids, logits_to_keep=keep, use_cache=False).logits[0]
            said: NDArray[np.float32] = logits.float().log_softmax(-1).cpu().numpy()
        yield said


def gguf_logprobs(path: Path, wanted: Sequence[Probe], adapter: Path | None = None) -> Iterator[NDArray[np.float32]]:
    """Log-probabilities of llama.cpp with a GGUF file, and a LoRA-GGUF over it; arrays as of `hf_logprobs`.

    Raises:
        MissingError: llama-cpp-python isn't installed.
        ModelError: It can't load or run the file.
    """
    import numpy as np

    with _opened(path, max(len(probe.ids) for probe in wanted), adapter) as slots:
        for probe in wanted:
            slots.clear()
            said = []
            for start in range(0, probe.at[-1] + 1, _BATCH):
                end = min(start + _BATCH, probe.at[-1] + 1)
                rows = [p - start for p in probe.at if start <= p < end]
                slots.append([(0, probe.ids[start:end])], wanted=rows)
                said += [slots.logits(row).copy() for row in rows]
            yield log_softmax(np.stack(said))


def compare(
    wanted: Sequence[Probe], reference: Iterable[NDArray[np.float32]], said: Iterable[NDArray[np.float32]]
) -> Agreement:
    """Compare two models' log-probabilities at the same probes; padding columns beyond the smaller are left out.

    Raises:
        ModelError: Something said is no number.
    """
    import numpy as np

    rows: list[NDArray[np.float64]] = []
    for probe, p, q in zip(wanted, reference, said, strict=True):
        width = min(p.shape[1], q.shape[1])
        p, q = p[:, :width].astype(np.float64), q[:, :width].astype(np.float64)
        places = np.arange(len(probe.at))
        likes, top = q.argmax(-1), p.argmax(-1)
        followed = np.array([probe.ids[at + 1] for at in probe.at])
        kl = (np.exp(p) * (p - q)).sum(-1)
        missed = p.max(-1) - p[places, likes]
        rows.append(np.stack([kl, likes == top, missed <= TIE_NATS, q[places, followed], p[places, followed]], 1))
    table = np.concatenate(rows)
    if not np.isfinite(table).all():
        raise ModelError(
            "a model gave a log-probability that is no number", "export it again; if that stays, train it again"
        )
    kl, same, tied, own, theirs = table.mean(0)
    return Agreement(
        float(kl),
        float(table[:, 0].max()),
        float(same),
        float(tied),
        float(np.exp(-own)),
        float(np.exp(-theirs)),
        len(table),
    )


def compare_gguf(
    path: Path, wanted: Sequence[Probe], reference: Iterable[NDArray[np.float32]], *, adapter: Path | None = None
) -> Agreement:
    """Compare a GGUF file (`gguf_logprobs`) with a reference."""
    return compare(wanted, reference, gguf_logprobs(path, wanted, adapter))


def speed_gguf(path: Path, ids: Sequence[int], n_decode: int = 32, *, adapter: Path | None = None) -> Speed:
    """How fast llama.cpp runs a file on this machine: evaluates `ids`, then decodes `n_decode` tokens, greedily.

    A small prompt before warms it up. Files are comparable only when measured in one run.
    """
    with _opened(path, len(ids) + n_decode, adapter) as slots:
        slots.append([(0, ids[:8])])
        slots.clear()
        begin = time.perf_counter()
        for start in range(0, len(ids), _BATCH):
            slots.append([(0, ids[start : start + _BATCH])])
        evaluated = time.perf_counter()
        for _ in range(n_decode):
            slots.append([(0, [int(slots.logits().argmax())])])
        decoded = time.perf_counter()
    return Speed(len(ids) / (evaluated - begin), n_decode / (decoded - evaluated))


@contextmanager
def _opened(path: Path, n_ctx: int, adapter: Path | None) -> Iterator[LlamaSlots]:
    """A single slot of a GGUF file."""
    lib, model = llama_lib.load(), llama_lib.load_model(path, "export it again")
    try:
        over = Adapter(lib, model, adapter) if adapter else None
        threads = default_threads()
        n_ctx = -(-n_ctx // 256) * 256  # llama.cpp rounds up, and warns
        weights = Weights(model, over and over.pointer)
        slots = LlamaSlots(lib, weights, n_ctx, Threads(threads, threads), n_batch=_BATCH)
        try:
            yield slots
        finally:
            slots.close()
    finally:
        lib.llama_model_free(model)


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-probabilities of logits, along the last axis."""
    import numpy as np

    shifted = logits - logits.max(-1, keepdims=True)
    found: NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return found
