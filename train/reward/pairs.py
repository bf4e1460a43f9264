"""Preference pairs for the reward model: what a user wrote against what that user would not have written.

    zero_shot      what the model wrote without the profile              (from a run of `prlm-edge eval run`)
    other_profile  what it wrote under another user's profile            (from such a run)
    neighbour      another user's text on the nearest topic
    style          the user's own text with habits broken                (`broken.py`)
    degenerate     a placeholder, a copied past text, a loop ...         (`broken.py`)
    swap           the same text, judged with a stranger's profile
    swap_near      the same, with the profile of somebody of the same domain or topic
    ranked         two answers under the own profile, the one nearer to what the user wrote first   (from such a run)
    paper          as PrLM trains: written with the profile against without it; the profile is not seen

The first seven are `KINDS`, what is trained on by default. All is decided by rows and seed. Not here: how a pair
becomes token ids (`prlm_edge.rerank.reward.encoder.Encoder`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from random import Random
from typing import Any

from prlm_edge.errors import UsageError
from prlm_edge.evaluate.records import Owner, Row
from prlm_edge.rerank.overlap import Counted, rouge_1, rouge_l
from prlm_edge.storage import json_lines
from prlm_edge.style import Style
from prlm_edge.train.reward.broken import break_style, plain, say_nothing
from prlm_edge.train.reward.contexts import Contexts
from prlm_edge.types import Scoring

KINDS = ("zero_shot", "other_profile", "neighbour", "style", "degenerate", "swap", "swap_near")
PAPER = ("paper",)
ALL_KINDS = (*KINDS, "ranked", *PAPER)
#: Kinds of generation, and whose past each shows.
GENERATED: Mapping[str, Owner] = {"zero_shot": "none", "other_profile": "other", "own": "own"}
NEEDS: Mapping[str, tuple[str, ...]] = {  # kind of pair -> kinds of generation
    "zero_shot": ("zero_shot",),
    "other_profile": ("other_profile",),
    "ranked": ("own",),
    "paper": ("own", "zero_shot"),
}
_CLEARLY = 0.15  # ROUGE (mean of 1 and L) by which one of two answers must be nearer to the target

#: Answers that a model gave: kind of generation ("zero_shot", "other_profile", "own") -> row id -> distinct answers.
Generated = Mapping[str, Mapping[str, Sequence[str]]]


@dataclass(frozen=True)
class Pair:
    """Two texts of which the first is to score higher.

    Attributes:
        row: The data row's id.
        user: Its user.
        kind: See the module.
        context: What the chosen text is judged with.
        chosen: The text to be preferred.
        rejected: The other; equal to `chosen` where the profile is swapped.
        other: What the rejected text is judged with.
    """

    row: str
    user: str
    kind: str
    context: Scoring
    chosen: str
    rejected: str
    other: Scoring


@dataclass
class Pairs:
    """Pairs, and what could not be made, by reason."""

    pairs: list[Pair] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def say(self) -> str:
        """One line for people."""
        kinds = Counter(pair.kind for pair in self.pairs)
        made = ", ".join(f"{kinds[kind]} {kind}" for kind in ALL_KINDS if kinds[kind])
        missing = "; ".join(f"{n} not made: {why}" for why, n in self.skipped.most_common())
        return f"{len(self.pairs)} pairs: {made}" + (f" ({missing})" if missing else "")


@dataclass(frozen=True)
class PairConfig:
    """Which pairs are made.

    Attributes:
        kinds: Of `ALL_KINDS`.
        per_kind: Pairs of each kind and row, where there are as many different ones.
        k: Past texts that a context shows; best the number that prompts show.
        seed: Of every draw.
    """

    kinds: tuple[str, ...] = KINDS
    per_kind: int = 1
    k: int = 4
    seed: int = 0


def make_pairs(
    rows: Sequence[Row],
    generated: Generated | None = None,
    config: PairConfig | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Pairs:
    """The pairs of `rows`, in their order.

    Args:
        rows: Of one or more tasks; users without a past are left out. Strangers and neighbours are found among them.
        generated: What `read_generated` returned, for the kinds that need it.
        config: Which pairs.
        progress: Called with (rows done, rows).

    Raises:
        UsageError: An unknown kind, or a kind that needs generated answers and has none.
    """
    config, generated = config or PairConfig(), generated or {}
    _check(config, generated)
    found = Pairs()
    done = 0
    for _, group in groupby(sorted(rows, key=lambda row: row.task), key=lambda row: row.task):
        of_task = list(group)
        maker = _Maker(Contexts(of_task, config.k, config.seed), generated, config)
        for row in of_task:
            if maker.contexts.own(row).past:
                for kind in config.kinds:
                    pairs = maker.make(row, kind)
                    found.pairs += pairs
                    found.skipped[kind] += not pairs
            else:
                found.skipped["no past writing"] += 1
            done += 1
            progress(done, len(rows))
    place = {row.id: i for i, row in enumerate(rows)}
    found.pairs.sort(key=lambda pair: place[pair.row])
    found.skipped = +found.skipped
    return found


def read_generated(path: Path, conditions: Mapping[str, str]) -> dict[str, dict[str, list[str]]]:
    """Reads what `prlm-edge eval run` wrote to answers.jsonl; of best-of-n all candidates count.

    Args:
        path: The file, or the run's folder. A torn last line does not count.
        conditions: Which kind of generation (a key of `GENERATED`) each condition's answers are.

    Raises:
        UsageError: No such file, an unknown kind, or a condition that answered nothing.
        DataError: A line is damaged.
    """
    for kind in conditions.values():
        if kind not in GENERATED:
            raise UsageError(f"no generated answers are called {kind!r}", f"there are: {', '.join(GENERATED)}")
    file = path / "answers.jsonl" if path.is_dir() else path
    if not file.exists():
        raise UsageError(f"{file}: no such file", "`prlm-edge eval run` makes it")
    found: dict[str, dict[str, list[str]]] = {kind: {} for kind in conditions.values()}
    seen: set[str] = set()
    for condition, row, answers in json_lines(file, _answers, "delete that line"):
        if condition not in conditions:
            continue
        seen.add(condition)
        own = found[conditions[condition]].setdefault(row, [])
        own += [one for one in dict.fromkeys(answers) if one.strip() and one not in own]
    if missing := [name for name in conditions if name not in seen]:
        raise UsageError(f"{file}: no answers of condition {missing[0]!r}", "`prlm-edge eval run` makes them")
    return found


def merge(*several: Generated) -> dict[str, dict[str, list[str]]]:
    """The answers of several runs together."""
    found: dict[str, dict[str, list[str]]] = {}
    for one in several:
        for kind, rows in one.items():
            for row, answers in rows.items():
                own = found.setdefault(kind, {}).setdefault(row, [])
                own += [answer for answer in answers if answer not in own]
    return found


def _answers(record: Mapping[str, Any]) -> tuple[str, str, list[str]]:
    """Condition, row and all answers of one line of answers.jsonl."""
    candidates = [str(one["answer"]) for one in record.get("candidates") or ()]
    return str(record["condition"]), str(record["row"]), [str(record["answer"]), *candidates]


def _check(config: PairConfig, generated: Generated) -> None:
    for kind in config.kinds:
        if kind not in ALL_KINDS:
            raise UsageError(f"no pairs are called {kind!r}", f"there are: {', '.join(ALL_KINDS)}")
        for need in NEEDS.get(kind, ()):
            if not generated.get(need):
                how = f"run `prlm-edge eval run` with profile: {GENERATED[need]}, or leave {kind} out"
                raise UsageError(f"pairs of kind {kind} need the answers of a run", how)


@dataclass(frozen=True)
class _Maker:
    contexts: Contexts
    generated: Generated
    config: PairConfig

    def make(self, row: Row, kind: str) -> list[Pair]:
        """At most `per_kind` pairs."""
        draw = Random(f"{self.config.seed}\0{row.id}\0{kind}".encode("utf-8", "surrogatepass"))  # noqa: S311
        own = self.contexts.own(row)
        if kind in ("swap", "swap_near"):
            others = self.contexts.near(row) if kind == "swap_near" else self.contexts.strangers(row)
            return [
                Pair(row.id, row.user, kind, own, row.target, row.target, self.contexts.of(other, row))
                for _, other in zip(range(self.config.per_kind), others, strict=False)
            ]
        if kind == "paper":
            return self._paper(row, draw)
        if kind == "ranked":
            return self._ranked(row, own, draw)
        return [Pair(row.id, row.user, kind, own, row.target, text, own) for text in self._texts(row, kind, draw)]

    def _texts(self, row: Row, kind: str, draw: Random) -> list[str]:
        """Different negatives; none reads like the target but for its style."""
        own, n = self.contexts.own(row), self.config.per_kind
        if kind == "neighbour":
            return [text for _, text in zip(range(n), self.contexts.neighbours(row), strict=False)]
        if kind == "style":
            copies = (break_style(row.target, own.style, row.query, draw) for _ in range(3 * n))
            return list(dict.fromkeys(copy for copy in copies if copy))[:n]
        if kind == "degenerate":
            nothings = (say_nothing(row.target, own.past, row.query, draw) for _ in range(3 * n))
            return list(dict.fromkeys(nothings))[:n]
        answers = [text for text in self.generated[kind].get(row.id, ()) if plain(text) != plain(row.target)]
        return draw.sample(answers, min(n, len(answers)))

    def _paper(self, row: Row, draw: Random) -> list[Pair]:
        with_, without = (list(self.generated[kind].get(row.id, ())) for kind in ("own", "zero_shot"))
        unseen = Scoring(row.query, row.task, Style())
        both = [(a, b) for a in with_ for b in without if plain(a) != plain(b)]
        chosen = draw.sample(both, min(self.config.per_kind, len(both)))
        return [Pair(row.id, row.user, "paper", unseen, a, b, unseen) for a, b in chosen]

    def _ranked(self, row: Row, own: Scoring, draw: Random) -> list[Pair]:
        target = Counted(row.target)
        near = {text: closeness(Counted(text), target) for text in self.generated["own"].get(row.id, ())}
        both = [(a, b) for a in near for b in near if near[a] >= near[b] + _CLEARLY]
        chosen = draw.sample(both, min(self.config.per_kind, len(both)))
        return [Pair(row.id, row.user, "ranked", own, a, b, own) for a, b in chosen]


def closeness(a: Counted, b: Counted) -> float:
    """What answers are ranked by: the mean of ROUGE-1 and ROUGE-L."""
    return (rouge_1(a, b) + rouge_l(a, b)) / 2
