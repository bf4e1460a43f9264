"""Renders prompts: task + retrieved items + request -> chat turns within a token budget.

Two layouts. `turns` (default): each item is a past user/assistant turn, the assistant's being `<think>one line</think>`
and `<answer>what the user wrote</answer>`; small models follow the format they see. `block`: numbered items in one
message, the paper's way (PrLM, arXiv 2508.07342), for models trained on it. Items stand least relevant first, or in an
order of their own (`item_order`), so that requests with common items begin alike and what was evaluated is reused.

Budget: every item first gets its share of words (`item_words`). Where that is too much, the longest texts are levelled
down to a common cap (water-filling) until all fits, then the least relevant items go. A long request leaves half the
budget to items. `Prompt.dropped` reports whatever was left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from prlm_edge.prompt.tags import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, THINK_OPEN, TO_ANSWER, defuse_tags
from prlm_edge.style import Style, example_line
from prlm_edge.tasks import Task
from prlm_edge.types import Drop, Hit, Prompt, Shape, Span, TokenCounter, Turn, sortable

MIN_ITEM_TOKENS = 12  # an item's text below this teaches nothing: the item goes instead
_CHARS_PER_WORD = 20  # bounds texts without spaces
_CHARS_PER_WORD_OF_CHANGE = 6  # paths and code: a word may be many tokens
_CHARS_PER_TOKEN = 6  # a longer request is not tried whole: it hardly fits, and is long to tokenize
_ANSWER_WORDS = 80  # of an example answer at most, or twice `item_words` where that is more
_SMALLEST_EXAMPLE = 16  # tokens: bounds how many items can possibly fit
_SURE, _SURE_PER_ITEM = 64, 16  # tokens to spare at which nothing need be measured apart


@dataclass(frozen=True)
class _Shot:
    """An item on its way into the prompt; `cost` is tokens without its text, `n_text` tokens of its text."""

    hit: Hit
    text: str
    answer: str
    cost: int = 0
    n_text: int = 0


@dataclass(frozen=True)
class Renderer:
    """Renders requests of one task.

    Args:
        task: Wording and which field of an item is the user's answer.
        counter: The tokenizer that the budget is measured with.
        style: Facts of the user's style, for the examples' reasoning lines.
        layout: "turns" or "block".
        reasoning: Whether examples reason before they answer.
        item_words: Words of an item's text at most.
        item_order: "relevance": the best item stands next to the request. "date": oldest first. "length": longest
            first, which reuses most, since it is the long items that many requests have in common: of consecutive
            prompts of one user 15 to 32% of the tokens are shared, by date 9 to 25%, by relevance 2 to 5%.
        shape: Of the request; items are shown in the same one.
    """

    task: Task
    counter: TokenCounter
    style: Style
    layout: str = "turns"
    reasoning: bool = True
    item_words: int = 40
    item_order: str = "relevance"
    shape: Shape = "text"

    def render(self, query: str, hits: Sequence[Hit], budget: int) -> Prompt:
        """The prompt for `query` with as much of `hits` (best first) as `budget` tokens hold.

        Never fails for want of room: with none at all, the request itself is cut and reported.
        """
        query, dropped = defuse_tags(query.strip()), list[Drop]()
        shots = self._shots(hits, budget, dropped)
        if len(query) <= budget * _CHARS_PER_TOKEN:  # nearly always all of it fits: then it is tokenized once
            prompt = self._prompt(shots, query)
            if prompt.tokens + _SURE + _SURE_PER_ITEM * len(shots) <= budget:
                return replace(prompt, dropped=tuple(dropped))
        shots = self._measured(shots)
        query = self._fit_query(query, shots, budget, dropped)
        slack = 0
        while True:
            kept, cap = self._level(shots, query, budget - slack)
            shortened = [self._cut(shot, cap) for shot in kept]
            prompt = self._prompt(shortened, query)
            if prompt.tokens <= budget or not kept:
                break
            slack += prompt.tokens - budget  # pieces joined cost a token more here and there
        dropped += self._report(shots, kept, shortened)
        return replace(prompt, dropped=tuple(dropped))

    def _prompt(self, shots: Sequence[_Shot], query: str) -> Prompt:
        turns = tuple(self._assemble(shots, query))
        tokenized = self.counter.encode_turns(turns, reasons=self.reasoning)
        tokens = len(tokenized.tokens) - tokenized.n_opening if tokenized else self.counter.count_turns(turns)
        return Prompt(turns, tuple(shot.hit for shot in self._ordered(shots)), (), tokens, tokenized)

    def _shots(self, hits: Sequence[Hit], budget: int, dropped: list[Drop]) -> list[_Shot]:
        """Each hit clipped to its words; hits that no budget could hold are reported at once."""
        possible = max(1, budget // _SMALLEST_EXAMPLE)
        per_word = _CHARS_PER_WORD_OF_CHANGE if self.shape == "change" else _CHARS_PER_WORD
        dropped += [Drop("item", hit.item.id, 0, 0, "no room in the context") for hit in hits[possible:]]
        shots = []
        for hit in hits[:possible]:
            source = defuse_tags(self.task.input_of(hit.item, self.shape))
            text, clipped = _clip(source, self.item_words, per_word)
            answer, _ = _clip(defuse_tags(self.task.answer_of(hit.item)), max(2 * self.item_words, _ANSWER_WORDS))
            if not answer:
                dropped.append(Drop("item", hit.item.id, 0, 0, f"it has no {self.task.learns_from}"))
                continue
            shots.append(_Shot(hit, text, answer))
            if clipped:
                n = self.counter.count(self._ask(text)) - self.counter.count(self._ask(""))
                dropped.append(_shortened("item_text", hit, n, text, source, f"cut at {self.item_words} words"))
        return shots

    def _measured(self, shots: Sequence[_Shot]) -> list[_Shot]:
        empty = self.counter.count_turns(self._assemble([], "", explain=False))
        found = []
        for shot in shots:
            n_text = self.counter.count(shot.text)
            whole = self.counter.count_turns(self._assemble([shot], "")) - empty
            found.append(replace(shot, cost=whole - n_text, n_text=n_text))
        return found

    def _fit_query(self, query: str, shots: Sequence[_Shot], budget: int, dropped: list[Drop]) -> str:
        wanted = sum(shot.cost + min(shot.n_text, MIN_ITEM_TOKENS) for shot in shots)
        room = budget - min(budget // 2, wanted) - self.counter.count_turns(self._assemble([], ""))
        cut = self.counter.truncate(query, max(room, 0))
        while cut and self.counter.count_turns(self._assemble([], cut)) > budget:
            room -= 8
            cut = self.counter.truncate(cut, max(room, 0))
        if len(cut) < len(query):
            n = self.counter.count(cut)
            dropped.append(_shortened("query", None, n, cut, query, "longer than its share of the context"))
        return cut

    def _level(self, shots: list[_Shot], query: str, budget: int) -> tuple[list[_Shot], int]:
        """The most shots, best first, that fit with texts levelled to a cap, MIN_ITEM_TOKENS or more; and the cap."""
        room = budget - self.counter.count_turns(self._assemble([], query, explain=False))
        kept = list(shots)
        while kept and sum(shot.cost + min(shot.n_text, MIN_ITEM_TOKENS) for shot in kept) > room:
            kept.pop()
        for_texts = room - sum(shot.cost for shot in kept)
        cap = max((shot.n_text for shot in kept), default=0)
        for i, n_text in enumerate(sorted(shot.n_text for shot in kept)):
            share = for_texts // (len(kept) - i)
            if n_text > share:
                return kept, share
            for_texts -= n_text
        return kept, cap

    def _cut(self, shot: _Shot, cap: int) -> _Shot:
        return shot if shot.n_text <= cap else replace(shot, text=self.counter.truncate(shot.text, cap).rstrip())

    def _report(self, shots: list[_Shot], kept: list[_Shot], shortened: list[_Shot]) -> list[Drop]:
        gone = [Drop("item", s.hit.item.id, 0, s.cost + s.n_text, "no room in the context") for s in shots[len(kept) :]]
        reason = "shortened to fit the context"
        cut = [
            Drop("item_text", after.hit.item.id, self.counter.count(after.text), before.n_text, reason)
            for before, after in zip(kept, shortened, strict=True)
            if len(after.text) < len(before.text)
        ]
        return gone + cut

    def _assemble(self, shots: Sequence[_Shot], query: str, *, explain: bool = True) -> list[Turn]:
        """Turns with `shots` (best first) in prompt order; without any, words explain the format."""
        ordered = self._ordered(shots)
        if self.layout == "block":
            return self._block(ordered, query)
        turns = [Turn("system", self._system(show_format=explain and not ordered))]
        earlier: list[tuple[int, str]] = []
        for number, shot in enumerate(ordered, 1):
            turns.append(Turn("user", (Span(self._ask(shot.text)),)))
            turns.append(Turn("assistant", self._reply(number, shot, earlier)))
            earlier.append((number, f"{shot.text} {shot.answer}"))
        return [*turns, Turn("user", (Span(self._ask(query)),))]

    def _ordered(self, shots: Sequence[_Shot]) -> list[_Shot]:
        """`shots` (best first) in prompt order. But for "relevance", it depends on the items alone."""
        if self.item_order == "date":
            return sorted(shots, key=lambda shot: (sortable(shot.hit.item.date), shot.hit.item.id))
        if self.item_order == "length":
            return sorted(shots, key=lambda shot: (-len(shot.hit.item.searchable), shot.hit.item.id))
        return list(reversed(shots))

    def _block(self, ordered: Sequence[_Shot], query: str) -> list[Turn]:
        noun = self.task.noun
        items = "".join(f"[{number}] {shot.text}\n{noun}: {shot.answer}\n\n" for number, shot in enumerate(ordered, 1))
        before = f"What I wrote before:\n\n{items}" if items else ""
        return [
            Turn("system", self._system(show_format=True)),
            Turn("user", (Span(before + self._ask(query)),)),
        ]

    def _system(self, *, show_format: bool) -> tuple[Span, ...]:
        system = Span(self.task.system)
        if not show_format:
            return (system,)  # the examples show the format better than words do
        answer = _between(f"rite the {self.task.noun} between ", ANSWER_OPEN, ANSWER_CLOSE)
        if not self.reasoning:
            return (system, Span(" W"), *answer, Span("."))
        think = _between(" First think in one line between ", THINK_OPEN, THINK_CLOSE)
        return (system, *think, Span(", then w"), *answer, Span("."))

    def _ask(self, text: str) -> str:
        return defuse_tags(self.task.before + text + self.task.after).strip()

    def _reply(self, number: int, shot: _Shot, earlier: Sequence[tuple[int, str]]) -> tuple[Span, ...]:
        answer = (Span(shot.answer), Span(ANSWER_CLOSE, trusted=True))
        if not self.reasoning:
            return (Span(ANSWER_OPEN, trusted=True), *answer)
        source = defuse_tags(self.task.input_of(shot.hit.item, self.shape))  # more of it than is shown
        line = example_line(number, shot.answer, source, earlier, self.style, self.shape)
        return (Span(THINK_OPEN, trusted=True), Span(defuse_tags(line)), Span(TO_ANSWER, trusted=True), *answer)


def _between(before: str, opening: str, closing: str) -> tuple[Span, ...]:
    return (Span(before), Span(opening, trusted=True), Span(" and "), Span(closing, trusted=True))


def _clip(text: str, n_words: int, per_word: int = _CHARS_PER_WORD) -> tuple[str, bool]:
    """The first `n_words` words of `text`, of `per_word` characters on average at most, and whether any was cut."""
    text = text.strip()
    head = text[: n_words * per_word]
    if len(head) < len(text) and not text[len(head)].isspace():
        head = head.rsplit(None, 1)[0]  # no part of a word
    words = head.split(None, n_words)
    if len(words) > n_words:
        head = head[: len(head) - len(words[-1])]
    return head.rstrip(), len(head.rstrip()) < len(text)


def _shortened(
    what: Literal["item_text", "query"], hit: Hit | None, kept: int, text: str, source: str, reason: str
) -> Drop:
    """The report of a text of which `text`, `kept` tokens, is left of `source`, whose tokens are estimated."""
    total = kept * len(source) // len(text) if text else len(source) // 4
    return Drop(what, hit.item.id if hit else "", kept, max(total, kept + 1), reason)
