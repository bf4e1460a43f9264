"""The scorer called "reward": which reward model it means, what is wrong with it before anything is drawn, one session.

Nothing heavy is imported before the first score.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prlm_edge.errors import MissingError, UsageError
from prlm_edge.types import Candidate, Scoring

if TYPE_CHECKING:
    from prlm_edge.rerank.reward.scorer import RewardScorer

BUNDLED = Path(__file__).parents[2] / "assets" / "reward"  # comes with the package
PACKAGES = ("onnxruntime", "tokenizers")
_NAME_ONE = "`prlm-edge train reward` makes one; --reward-model DIR, or the setting reward_model, names it"

# Of this process: an evaluation makes a scorer a row, and a server one a request. Few folders are ever asked for.
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
        """Say what would keep the model from loading, without loading it.

        Raises:
            PrlmError: As `card` says.
        """
        if (self.folder, self._threads) not in _opened:
            self.card()

    def card(self) -> dict[str, Any]:
        """What reward.json says of the model, which is there and whole.

        Raises:
            UsageError: No such folder.
            MissingError: A package is missing, or prlm-edge came without a model.
            ModelError: The folder holds no reward model, or it is damaged or of another version.
        """
        from prlm_edge.rerank.reward.encoder import no_packages
        from prlm_edge.rerank.reward.scorer import read_card

        if not self.folder.is_dir():
            if self._is_bundled:
                raise MissingError("this prlm-edge came without a reward model", _NAME_ONE)
            what = "not a folder" if self.folder.exists() else "no such folder"
            raise UsageError(f"{self.folder}: {what}", "reward_model names the folder of an exported reward model")
        card = read_card(self.folder)
        if not all(map(find_spec, PACKAGES)):
            raise no_packages()
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
                from prlm_edge.rerank.reward.scorer import RewardScorer

                _opened[key] = RewardScorer(*key)
            return _opened[key]
