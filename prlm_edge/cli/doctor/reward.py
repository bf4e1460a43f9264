"""What `prlm-edge doctor` says about the reward model: there, whole, and loading where the settings choose by it.

Not here: other models (`_checks.py`).
"""

from __future__ import annotations

from typing import Literal

from prlm_edge.cli.doctor.checks import Check, chooses_by_reward
from prlm_edge.cli.doctor.system import pip_command, trial
from prlm_edge.cli.shared.table import PROG
from prlm_edge.errors import MissingError, PrlmError
from prlm_edge.rerank.reward.lazy import LazyReward
from prlm_edge.settings import Settings

_NAME = "reward model"
_USE = " (select reward)"
_UNSET = f"{PROG} config unset select"  # the default way needs no model
_PROOF = "from pathlib import Path; from prlm_edge.rerank.reward.scorer import RewardScorer; RewardScorer(Path({!r}))"


def check_reward_model(found: Settings) -> Check:
    """The model that select reward asks; loaded, in a process of its own, only where it is the setting."""
    needed, model = chooses_by_reward(found), LazyReward(found.reward_model)
    try:
        card = model.card()
    except MissingError as error:
        state: Literal["note", "missing"] = "missing" if needed else "note"
        fix = pip_command(f"{PROG}[onnx]") if model.folder.is_dir() else error.hint
        return Check("Models", _NAME, state, error.message + ("" if needed else _USE), fix, needed)
    except PrlmError as error:
        return Check("Models", _NAME, "bad", error.message, error.hint, needed)
    if found.select == "reward" and (problem := trial(_PROOF.format(str(model.folder)))):
        return Check("Models", _NAME, "bad", f"{model.folder} does not load: {problem}", _UNSET, needed)
    size = sum(file.stat().st_size for file in model.folder.iterdir() if file.is_file())
    layers = f", {card['layers']} layers" if "layers" in card else ""
    loads = "it loads" if found.select == "reward" else "hashes verified"
    return Check("Models", _NAME, "ok", f"{size / 1e6:.0f} MB{layers}, {loads}{_USE}: {model.folder}", needed=needed)
