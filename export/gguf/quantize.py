"""Quantized GGUF files: llama.cpp's own quantizer in this process, and which format to ship (`--quant auto`)."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prlm_edge.backends.llama.quantize import FTYPES as FTYPES
from prlm_edge.backends.llama.quantize import convert
from prlm_edge.cpu import default_threads
from prlm_edge.errors import ModelError, PrlmError, UsageError
from prlm_edge.export.measure import Probe, compare_gguf, speed_gguf
from prlm_edge.models.store import require_space
from prlm_edge.storage import private_dir, write_error

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PROMPT_TOKENS, _ANSWER_TOKENS = 1200, 48  # of a usual request
_AS_FAST = 1.1
_AS_GOOD = 0.01  # of ROUGE-L: weights rounded to 16 bits move greedy answers by as much (docs/training.md)


@dataclass(frozen=True)
class FormatRow:
    """A row of the table that `--quant auto` chooses from; all of a table are measured in one run.

    Attributes:
        quant: Its format.
        size: Bytes.
        kl: Mean KL divergence from the trained model, nats.
        top1: Share of positions with the trained model's top token.
        perplexity: Of the tokens that the sequences hold.
        prompt_tps: Prompt tokens evaluated a second.
        decode_tps: Tokens decoded a second.
        rouge1: Mean ROUGE-1 of answers to dev users (`dev_rouge.py`); None where none were asked for.
        rougeL: Mean ROUGE-L of the same.
        rougeL_low: Lower end of the 95% interval of its difference from the trained model's, paired by user.
        rougeL_high: Its upper end.
    """

    quant: str
    size: int
    kl: float
    top1: float
    perplexity: float
    prompt_tps: float
    decode_tps: float
    rouge1: float | None = None
    rougeL: float | None = None
    rougeL_low: float | None = None
    rougeL_high: float | None = None

    @property
    def request_s(self) -> float:
        """Seconds that a usual request takes: 1,200 prompt tokens and 48 of answer."""
        return _PROMPT_TOKENS / self.prompt_tps + _ANSWER_TOKENS / self.decode_tps

    @property
    def writes_worse(self) -> bool:
        """Whether its ROUGE-L is below the trained model's by more than chance, and by more than rounding may do."""
        if self.rougeL_low is None or self.rougeL_high is None:
            return False
        return self.rougeL_high < 0 and (self.rougeL_low + self.rougeL_high) / 2 < -_AS_GOOD


def quantize(source: Path, target: Path, quant: str, imatrix: Mapping[str, NDArray[np.float32]] | None = None) -> None:
    """Write `source` in another format; `target` appears whole or not at all. Nothing is printed.

    Args:
        source: A GGUF file in 16 or 32 bits.
        target: The new file.
        quant: One of `FTYPES`.
        imatrix: Importance of input columns by tensor name (`imatrix.py`).

    Raises:
        UsageError: No such format.
        MissingError: llama-cpp-python isn't installed.
        ModelError: llama.cpp can't convert it, such as with another model's importance matrix.
        PrlmError: There is no room, or it can't be written.
    """
    if quant not in FTYPES:
        raise UsageError(f"unknown format {quant!r}", f"there are {', '.join(FTYPES)}")
    if not source.is_file():
        raise UsageError(f"{source}: no such model file", "export it first")
    try:
        private_dir(target.parent)
        require_space(target.parent, source.stat().st_size)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as work:
            made = Path(work) / target.name
            if why := convert(source, made, quant, imatrix=imatrix, n_threads=default_threads()):
                raise ModelError(f"{source.name}: llama.cpp can't make {quant} of it: {why}", "export it again")
            made.replace(target)
    except OSError as error:
        raise write_error(target, error) from error


def measured(
    quant: str, file: Path, wanted: Sequence[Probe], reference: Sequence[NDArray[np.float32]], prompt: Sequence[int]
) -> FormatRow:
    """A file's row without ROUGE: its agreement with the trained model at `wanted`, and its speed on `prompt`."""
    found, speed = compare_gguf(file, wanted, reference), speed_gguf(file, prompt)
    size = file.stat().st_size
    return FormatRow(quant, size, found.kl, found.top1, found.perplexity, speed.prompt_tps, speed.decode_tps)


def choose(rows: Sequence[FormatRow], max_kl: float) -> FormatRow:
    """The format to ship.

    Of those that diverge by at most `max_kl` and don't write worse than the trained model, the one that answers a usual
    request soonest. Those within a tenth of it count as equally fast, since measurements differ by as much; of them the
    smallest file, then the lowest divergence.

    Raises:
        UsageError: There are no rows.
        PrlmError: None is within the bound, or all that are write worse.
    """
    if not rows:
        raise UsageError("no formats to choose from", f"name some of {', '.join(FTYPES)}")
    close = [row for row in rows if row.kl <= max_kl]
    if not close:
        best = min(rows, key=lambda row: row.kl)
        raise PrlmError(
            f"no format is within a KL divergence of {max_kl}: the nearest is {best.quant} with {best.kl:.4f}",
            "allow more with --max-kl, or try f16",
        )
    good = [row for row in close if not row.writes_worse]
    if not good:
        best = max(close, key=lambda row: row.rougeL or 0.0)
        raise PrlmError(
            f"every format within a KL divergence of {max_kl} writes worse than the trained model: "
            f"the best is {best.quant} with ROUGE-L {best.rougeL:.3f}",
            "try f16, or leave ROUGE out with --rouge-users 0",
        )
    fastest = min(row.request_s for row in good)
    return min((row for row in good if row.request_s <= _AS_FAST * fastest), key=lambda row: (row.size, row.kl))
