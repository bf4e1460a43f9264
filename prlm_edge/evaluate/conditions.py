"""Which conditions to answer under: a product of flags, or a YAML file with named conditions and a grid.

    seed: 0
    limit: 60                       # users
    settings: {reasoning: "off"}    # of all conditions, by the names that `prlm-edge config show` lists
    conditions:
      first sentence: {baseline: first_sentence}
      zero-shot: {profile: none}
      swapped: {profile: other, k: 4}
    grid: {k: [1, 2, 4], retriever: [bm25, dense]}

Conditions start from prlm-edge's defaults, not from the user's config: the same file means the same anywhere.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from prlm_edge.errors import UsageError, did_you_mean
from prlm_edge.evaluate.baselines import BASELINES
from prlm_edge.evaluate.records import Condition, Owner
from prlm_edge.models.choice import chosen
from prlm_edge.settings import DEFAULTS, KEYS, Settings, check
from prlm_edge.storage import read_yaml

_TOP = ("seed", "limit", "settings", "conditions", "grid")
_OWN = ("profile", "baseline")  # keys of a condition that are no settings
SET_BY_THE_RUN = ("user", "task", "seed", "tasks_dir", "api_key")  # the data says them, the run, or the environment


@dataclass(frozen=True)
class Experiment:
    """What a YAML file asks for; None where it leaves it to the command line."""

    conditions: tuple[Condition, ...]
    seed: int | None = None
    limit: int | None = None


def settings_of(condition: Condition, task: str, seed: int = 0) -> Settings:
    """The settings that a condition means for rows of `task`: with the model's name in place of "auto".

    A server's key comes from PRLM_API_KEY alone.

    A run folder and its report are made to be shared, so nothing secret may become part of a condition.
    """
    profile = {"retriever": "none"} if condition.profile == "none" else {}
    own = {"task": task, "seed": seed, "api_key": os.environ.get("PRLM_API_KEY", "")}
    return chosen(Settings(**{**DEFAULTS, **own, **condition.settings, **profile}))


def product(axes: Mapping[str, Sequence[Any]], common: Mapping[str, Any] | None = None) -> tuple[Condition, ...]:
    """One condition for each combination of values, named by the axes that have several: "k=4 retriever=dense".

    Args:
        axes: Values by setting, or by "profile" or "baseline".
        common: Settings of all.

    Raises:
        UsageError: An unknown setting or value.
    """
    varying = [key for key, values in axes.items() if len(values) > 1]
    found = []
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        name = " ".join(f"{key}={_spelled(chosen[key])}" for key in varying) or "default"
        found.append(make(name, {**(common or {}), **chosen}))
    return tuple(found)


def make(name: str, given: Mapping[str, Any]) -> Condition:
    """One condition from settings, `profile` and `baseline`.

    Raises:
        UsageError: An unknown key or value.
    """
    settings = {key: _checked(key, value) for key, value in given.items() if key not in _OWN}
    profile, baseline = cast(Owner, given.get("profile", "own")), given.get("baseline", "")
    if profile not in get_args(Owner):
        raise UsageError(f"condition {name!r}: no profile {profile!r}", f"there are: {', '.join(get_args(Owner))}")
    if baseline and baseline not in BASELINES:
        raise UsageError(f"condition {name!r}: no baseline {baseline!r}", f"there are: {', '.join(BASELINES)}")
    if baseline and settings:
        raise UsageError(f"condition {name!r}: a baseline takes no {min(settings)}", "leave it out")
    return Condition(name, settings, profile, baseline)


def baselines() -> tuple[Condition, ...]:
    """A condition for every trivial baseline."""
    return tuple(make(name.replace("_", " "), {"baseline": name}) for name in BASELINES)


def read_experiment(path: Path) -> Experiment:
    """The plan in a YAML file.

    Raises:
        UsageError: No such file, not of the shape that the module shows, or two conditions of one name.
    """
    value = read_yaml(path)
    for key in value:
        if key not in _TOP:
            raise UsageError(
                f"{path}: unknown key {key!r}", did_you_mean(str(key), _TOP, f"there are: {', '.join(_TOP)}")
            )
    common, named, grid = (_mapping(path, value, key) for key in ("settings", "conditions", "grid"))
    found = [
        make(str(name), given if "baseline" in (given or {}) else {**common, **(given or {})})
        for name, given in named.items()
    ]
    if grid:
        axes = {str(key): values if isinstance(values, list) else [values] for key, values in grid.items()}
        found += product(axes, common)
    if not found:
        raise UsageError(f"{path}: neither conditions nor a grid", "add `conditions:` or `grid:`")
    seed, limit = value.get("seed"), value.get("limit")
    for key, number in (("seed", seed), ("limit", limit)):
        if number is not None and (type(number) is not int or number < (key == "limit")):
            raise UsageError(f"{path}: {key} is {number!r}", "give a whole number")
    return Experiment(unique(found), seed, limit)


def unique(conditions: Iterable[Condition]) -> tuple[Condition, ...]:
    """The conditions; of those that mean the same the first.

    Raises:
        UsageError: Two of one name mean different things.
    """
    found: dict[str, Condition] = {}
    for condition in conditions:
        if condition.name in found and found[condition.name] != condition:
            raise UsageError(f"two conditions are called {condition.name!r}", "give each a name of its own")
        if not any(_meaning(condition) == _meaning(other) for other in found.values()):
            found[condition.name] = condition
    return tuple(found.values())


def _meaning(condition: Condition) -> tuple[Any, ...]:
    return settings_of(condition, ""), condition.profile, condition.baseline


def _checked(key: str, value: Any) -> Any:
    if key not in KEYS or key in SET_BY_THE_RUN:
        if key == "api_key":
            raise UsageError("a condition can't set 'api_key': it would be kept in the run", "set PRLM_API_KEY")
        known = [*(key for key in KEYS if key not in SET_BY_THE_RUN), *_OWN]
        raise UsageError(f"a condition can't set {key!r}", did_you_mean(key, known, f"there are: {', '.join(known)}"))
    if key == "reasoning" and isinstance(value, bool):  # YAML reads a bare `off` as false
        value = "hide" if value else "off"
    return check(key, value, key)


def _spelled(value: Any) -> str:
    return "off" if value is False else "on" if value is True else str(value)


def _mapping(path: Path, value: Mapping[Any, Any], key: str) -> Mapping[Any, Any]:
    found = value.get(key) or {}
    if not isinstance(found, dict) or (
        key == "conditions" and not all(one is None or isinstance(one, dict) for one in found.values())
    ):
        raise UsageError(f"{path}: {key} is no mapping", "see the example in `prlm-edge eval run --help`")
    return found
