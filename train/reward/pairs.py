"""Preference pairs for the reward model: what a user wrote against what that user would not have written.

    zero_shot      what the model wrote without the profile
    other_profile  what it wrote under another user's profile
    neighbour      another user's text on the nearest topic
    style          the user's own text with habits broken (`broken.py`)
    degenerate     a placeholder, a copied past text, a loop ... (`broken.py`)
    swap           the same text, judged with a stranger's profile
    swap_near      the same, with the profile of somebody of the same domain or topic
    paper          as PrLM trains: written with the profile against without it; the profile is not seen

The first two and the last need answers of the model (`generated_of`). All is decided by rows and seed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from random import Random

from prlm_edge.errors import UsageError
from prlm_edge.evaluate.records import Answer, Owner, Row
from prlm_edge.style import Style
from prlm_edge.train.config import RewardConfig
from prlm_edge.train.reward.broken import break_style, plain, say_nothing
from prlm_edge.train.reward.contexts import Contexts
from prlm_edge.train.types import Progress
from prlm_edge.types import Scoring

#: Kinds of generation, and whose past each shows.
GENERATED: Mapping[str, Owner] = {"zero_shot": "none", "other_profile": "other", "own": "own"}
#: Kind of pair -> the kinds of generation that it needs.
NEEDS: Mapping[str, tuple[str, ...]] = {
    "zero_shot": ("zero_shot",),
    "other_profile": ("other_profile",),
    "paper": ("own", "zero_shot"),
}

#: Answers that a model gave: kind of generation -> row id -> distinct answers.
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
        made = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
        missing = "; ".join(f"{n} not made: {why}" for why, n in self.skipped.most_common())
        return f"{len(self.pairs)} pairs: {made}" + (f" ({missing})" if missing else "")


def make_pairs(
    rows: Sequence[Row],
    config: RewardConfig,
    generated: Generated | None = None,
    *,
    k: int = 4,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> Pairs:
    """The pairs of `rows`, in their order.

    Args:
        rows: Of one or more tasks; users without a past are left out. Strangers and neighbours are found among them.
        config: Which kinds of pairs, and how many of each kind and row.
        generated: What `generated_of` returned, for the kinds that need it.
        k: Past texts that a context shows; best the number that prompts show.
        seed: Of every draw.
        progress: Called with (rows done, rows).

    Raises:
        UsageError: A kind needs generated answers and has none.
    """
    generated = generated or {}
    for kind in config.kinds:
        for need in NEEDS.get(kind, ()):
            if not generated.get(need):
                raise UsageError(f"pairs of kind {kind} need answers of the model ({need})", f"leave {kind} out")
    found = Pairs()
    done = 0
    for _, group in groupby(sorted(rows, key=lambda row: row.task), key=lambda row: row.task):
        of_task = list(group)
        maker = _Maker(Contexts(of_task, k, seed), generated, config.per_kind, seed)
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


def generated_of(answers: Iterable[Answer]) -> dict[str, dict[str, list[str]]]:
    """The answers of runs whose conditions are named by kinds of generation; of best-of-n all candidates."""
    found: dict[str, dict[str, list[str]]] = {}
    for one in answers:
        own = found.setdefault(one.condition, {}).setdefault(one.row, [])
        texts = (one.answer, *(str(candidate["answer"]) for candidate in one.candidates))
        own += [text for text in dict.fromkeys(texts) if text.strip() and text not in own]
    return found


@dataclass(frozen=True)
class _Maker:
    contexts: Contexts
    generated: Generated
    n: int  # pairs of each kind and row at most
    seed: int

    def make(self, row: Row, kind: str) -> list[Pair]:
        """Pairs of one kind."""
        draw = Random(f"{self.seed}\0{row.id}\0{kind}".encode("utf-8", "surrogatepass"))  # noqa: S311
        own = self.contexts.own(row)
        if kind in ("swap", "swap_near"):
            others = self.contexts.near(row) if kind == "swap_near" else self.contexts.strangers(row)
            return [
                Pair(row.id, row.user, kind, own, row.target, row.target, self.contexts.of(other, row))
                for _, other in zip(range(self.n), others, strict=False)
            ]
        if kind == "paper":
            return self._paper(row, draw)
        return [Pair(row.id, row.user, kind, own, row.target, text, own) for text in self._texts(row, kind, draw)]

    def _texts(self, row: Row, kind: str, draw: Random) -> list[str]:
        """Different negatives; only those of kind style may read like the target."""
        own, n = self.contexts.own(row), self.n
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
        chosen = draw.sample(both, min(self.n, len(both)))
        return [Pair(row.id, row.user, "paper", unseen, a, b, unseen) for a, b in chosen]
