"""The personalization reward model: how likely it is that this user wrote this answer to this request.

Importing this module loads no package; `LazyReward` loads the model at its first score.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from prlm_edge.cpu import threads_for
from prlm_edge.errors import BAD_DATA, MissingError, ModelError, UsageError, first_line, no_onnx
from prlm_edge.rerank.reward.encoder import ADVICE, ENCODING, Encoded, Encoder
from prlm_edge.storage import fits
from prlm_edge.types import Candidate, Scoring

CARD = "reward.json"
BUNDLED = Path(__file__).parents[2] / "assets" / "reward"  # comes with the package
_FORM: dict[str, Any] = {"encoding": int, "max_length": int, "sha256": {"model.onnx": str, "tokenizer.json": str}}
PACKAGES = ("onnxruntime", "tokenizers")
_NAME_ONE = "`prlm-edge train reward` makes one; --reward-model DIR, or the setting reward_model, names it"


class RewardScorer:
    """Chooses the answer that this user is likeliest to have written; a `types.Scorer`.

    Each pair runs alone on one thread, several at a time: the int8 model scales its activations by all that runs
    together, so that in a batch a score would depend on the other candidates and on padding.

    Args:
        folder: Holds model.onnx, tokenizer.json and reward.json.
        threads: Pairs scored at a time; 0 takes one a physical core.

    Raises:
        MissingError: onnxruntime or tokenizers is missing.
        ModelError: The files are missing, damaged or of another version.
    """

    name = "reward"
    needs_logprobs = False

    def __init__(self, folder: Path, threads: int = 0) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise no_onnx("the reward model") from None
        card = read_card(folder)
        self.encoder = Encoder(folder / "tokenizer.json", int(card["max_length"]))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises classes of its own
            raise ModelError(f"{folder}: can't load the reward model: {first_line(error)}", ADVICE) from error
        self._inputs = {entry.name for entry in self._session.get_inputs()}
        self._threads = threads_for(threads)

    def score(self, candidates: Sequence[Candidate], context: Scoring) -> list[float]:
        """A logit for each candidate, higher is better; differences are those of Bradley and Terry."""
        return self.score_all([(context, candidate.answer) for candidate in candidates])

    def score_all(self, pairs: Sequence[tuple[Scoring, str]]) -> list[float]:
        """The score of each (context, answer); equal ones are run once."""
        encoded = [self.encoder.encode(context, answer) for context, answer in pairs]
        keys = [tuple(one.ids) for one in encoded]
        distinct = dict(zip(keys, encoded, strict=True))
        from concurrent.futures import ThreadPoolExecutor  # it loads logging, which start-up does without

        with ThreadPoolExecutor(max(1, min(self._threads, len(distinct)))) as pool:
            scores = dict(zip(distinct, pool.map(self._run, distinct.values()), strict=True))
        return [scores[key] for key in keys]

    def _run(self, encoded: Encoded) -> float:
        import numpy as np

        ids = np.array([encoded.ids], np.int64)
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.array([encoded.types])}
        feeds["token_type_ids"] = feeds["token_type_ids"].astype(np.int64)
        try:
            return float(self._session.run(None, {name: feeds[name] for name in self._inputs})[0].reshape(-1)[0])
        except Exception as error:  # onnxruntime raises classes of its own
            raise ModelError(f"the reward model failed: {first_line(error)}", ADVICE) from error


def read_card(folder: Path) -> dict[str, Any]:
    """What reward.json says of the model in its folder.

    Raises:
        ModelError: It is missing or damaged, or the model or tokenizer is not the one it was written for.
    """
    from prlm_edge.models import sha256_of

    path = folder / CARD
    try:
        card = json.loads(path.read_bytes())
        if not fits(card, _FORM):
            raise ValueError("odd values")
        promised = {name: card["sha256"][name] for name in _FORM["sha256"]}
        encoding = card["encoding"]
    except FileNotFoundError:
        raise ModelError(
            f"{folder}: no reward model in it", f"it must hold model.onnx, tokenizer.json and {CARD}"
        ) from None
    except (OSError, *BAD_DATA):
        raise ModelError(f"{path}: damaged", ADVICE) from None
    if encoding != ENCODING:
        raise ModelError(f"{folder}: a reward model of encoding {encoding}, not {ENCODING}", ADVICE)
    for name, sha256 in promised.items():
        if sha256_of(folder / name) != sha256:
            raise ModelError(f"{folder / name}: not the file that {CARD} was written for", ADVICE)
    return dict(card)


# One model a process: an evaluation makes a scorer for each row, and a server for each request.
_opened: dict[tuple[Path, int], RewardScorer] = {}
_opening = threading.Lock()


class LazyReward:
    """Chooses the answer that this user is likeliest to have written; the model is loaded at the first score.

    Args:
        folder: An exported reward model; None takes the one that comes with prlm-edge.
        threads: As `RewardScorer` says.
    """

    name = "reward"
    needs_logprobs = False

    def __init__(self, folder: str | Path | None = None, threads: int = 0) -> None:
        self.folder = (Path(folder) if folder else BUNDLED).absolute()
        self._is_bundled, self._threads = not folder, threads

    def check(self) -> None:
        """Refuse what would keep the model from loading, without loading it.

        Raises:
            PrlmError: As `card` says.
        """
        if (self.folder, self._threads) not in _opened:
            self.card()

    def card(self) -> dict[str, Any]:
        """What reward.json says of the model; the model is checked to be there and whole.

        Raises:
            UsageError: No such folder.
            MissingError: A package is missing, or prlm-edge came without a model.
            ModelError: The folder holds no reward model, or it is damaged or of another version.
        """
        if not self.folder.is_dir():
            if self._is_bundled:
                raise MissingError("this prlm-edge came without a reward model", _NAME_ONE)
            what = "not a folder" if self.folder.exists() else "no such folder"
            raise UsageError(f"{self.folder}: {what}", "reward_model names the folder of an exported reward model")
        card = read_card(self.folder)
        if not all(map(find_spec, PACKAGES)):
            raise no_onnx("the reward model")
        return card

    def score(self, candidates: Sequence[Candidate], context: Scoring) -> list[float]:
        """As `RewardScorer.score`.

        Raises:
            PrlmError: As `check` says.
        """
        return self._open().score(candidates, context)

    def _open(self) -> RewardScorer:
        self.check()
        key = (self.folder, self._threads)
        with _opening:
            if key not in _opened:
                _opened[key] = RewardScorer(*key)
            return _opened[key]
