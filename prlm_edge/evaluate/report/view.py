"""What a report shows of a run: its conditions, its sweeps, who gained and who lost, the best and the worst answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from prlm_edge.evaluate.conditions import settings_of
from prlm_edge.evaluate.records import Answer, Condition
from prlm_edge.evaluate.run_folder import RunFolder
from prlm_edge.evaluate.scoring import by_domain
from prlm_edge.evaluate.stats import Difference, difference

QUALITY = "rouge1"
_N_EXAMPLES = 20
_N_HURT = 10
_UNSWEPT = ("model", "base_url", "api_key", "seed", "task", "origins")


@dataclass(frozen=True)
class Point:
    """One condition of a sweep: the value of the setting, and the condition's figures."""

    value: Any
    condition: str
    summary: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class ScoredAnswer:
    """One answer with its scores."""

    answer: Answer
    rouge1: float
    style: float | None


@dataclass(frozen=True)
class UserGain:
    """A user's mean quality without and with their profile."""

    user: str
    without: float
    with_profile: float


class View:
    """One run, as a report shows it.

    Args:
        run: The run.
        seen: Domains of which users are shown apart; with none, nobody is.

    Raises:
        UsageError: The run isn't scored yet, or users are to be shown apart and have no domains.
    """

    def __init__(self, run: RunFolder, seen: Collection[str] = ()) -> None:
        self.run, self.header, self.summary = run, run.header, run.summary()
        data = self.header["asked"]["data"]
        self.name = f"{data['task'] or data['name']} ({run.path.name})"  # a report may hold several of one task
        self.groups = by_domain(run, seen) if seen else {}
        known = self.summary["conditions"]
        self.conditions = [Condition(**one) for one in self.header["asked"]["conditions"] if one["name"] in known]

    def of(self, condition: str) -> Mapping[str, Mapping[str, float]]:
        """{metric: {"mean", "low", "high", ...}} of a condition."""
        found: Mapping[str, Mapping[str, float]] = self.summary["conditions"][condition]
        return found

    def mean(self, condition: str, metric: str = QUALITY) -> float:
        """A mean; 0 where the metric never applied."""
        return float(self.of(condition).get(metric, {}).get("mean", 0.0))

    @cached_property
    def models(self) -> list[Condition]:
        """The conditions that show a model the user's own past items."""
        return [one for one in self.conditions if not one.baseline and one.profile == "own"]

    @cached_property
    def best(self) -> Condition | None:
        """The best of `models` by quality."""
        return max(self.models, key=lambda one: self.mean(one.name), default=None)

    @cached_property
    def zero_shot(self) -> Condition | None:
        """The first condition that shows no past item."""
        return next((one for one in self.conditions if not one.baseline and one.profile == "none"), None)

    @cached_property
    def sweeps(self) -> dict[str, list[Point]]:
        """By setting: the conditions that differ from the base in that setting alone, the base among them.

        The base is the condition from which most others differ in one setting.
        """
        settings = {one.name: _swept(one) for one in self.models}

        def around(base: str) -> dict[str, list[str]]:
            found: dict[str, list[str]] = {}
            for name, other in settings.items():
                differs = [key for key in other if other[key] != settings[base][key]]
                if len(differs) == 1:
                    found.setdefault(differs[0], []).append(name)
            return found

        if not settings:
            return {}
        base = max(settings, key=lambda name: sum(map(len, around(name).values())))
        sweeps = {}
        for key, names in around(base).items():
            points = [Point(settings[name][key], name, self.of(name)) for name in [base, *names]]
            sweeps[key] = (
                sorted(points, key=lambda p: (isinstance(p.value, str), p.value)) if _ordered(points) else points
            )
        return sweeps

    @cached_property
    def scores(self) -> dict[tuple[str, str], Mapping[str, Any]]:
        """Score lines by (condition, row)."""
        return {(score["condition"], score["row"]): score for score in self.run.scores()}

    @cached_property
    def gains(self) -> list[UserGain]:
        """Quality of `zero_shot` and of `best` by user, the least gain first."""
        if not self.zero_shot or not self.best:
            return []
        users: dict[str, list[tuple[float, float]]] = {}
        for (condition, row), score in self.scores.items():
            other = self.scores.get((self.best.name, row))
            if condition == self.zero_shot.name and other:
                users.setdefault(score["user"], []).append((score[QUALITY], other[QUALITY]))
        found = [
            UserGain(user, sum(a for a, _ in each) / len(each), sum(b for _, b in each) / len(each))
            for user, each in users.items()
        ]
        return sorted(found, key=lambda one: one.with_profile - one.without)

    @property
    def hurt(self) -> list[UserGain]:
        """The users whose answers the profile made worse, the worst first."""
        return [one for one in self.gains if one.with_profile < one.without][:_N_HURT]

    @cached_property
    def gain(self) -> Difference | None:
        """What the profile brings: `best` against `zero_shot`, paired by user."""
        if not self.zero_shot or not self.best:
            return None
        a, b = (
            {row: (s["user"], s[QUALITY]) for (condition, row), s in self.scores.items() if condition == one.name}
            for one in (self.zero_shot, self.best)
        )
        return difference(a, b)

    @cached_property
    def examples(self) -> tuple[list[ScoredAnswer], list[ScoredAnswer]]:
        """The best and the worst answers of `best` by ROUGE-1 and style match together."""
        if not self.best:
            return [], []
        found = []
        for answer in self.run.answers():
            score = self.scores.get((answer.condition, answer.row))
            if answer.condition == self.best.name and score:
                found.append(ScoredAnswer(answer, score[QUALITY], score["style_match"]))
        found.sort(key=lambda one: -(one.rouge1 + (one.style or 0.0)))
        n = min(_N_EXAMPLES, len(found) // 2)
        return found[:n], found[len(found) - n :][::-1]

    @property
    def signatures(self) -> Sequence[Mapping[str, Any]]:
        """What went wrong in conditions that run a model."""
        trivial = {one.name for one in self.conditions if one.baseline}
        return [one for one in self.summary["signatures"] if one["condition"] not in trivial]


def frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (cost, quality) points that no cheaper one equals or betters, by rising cost."""
    kept: list[tuple[float, float]] = []
    for cost, quality in sorted(points, key=lambda point: (point[0], -point[1])):
        if not kept or quality > kept[-1][1]:
            kept.append((cost, quality))
    return kept


def _swept(condition: Condition) -> dict[str, Any]:
    found = settings_of(condition, "")
    settings = asdict(found)
    if found.n_drawn == 1:
        settings["select"] = ""
    return {key: value for key, value in settings.items() if key not in _UNSWEPT}


def _ordered(points: Sequence[Point]) -> bool:
    return len({type(point.value) for point in points}) == 1
