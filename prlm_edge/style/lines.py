"""Reasoning lines from style facts, and the check of any line's claims.

A line such as "About sourdough and starter. [1] is closest. 6 words, lower case, tag 'docs:', no final period." says
only what is true of the answer that follows it; of a change it says what the answer takes up: "Changes cache.py:
lru -> ttl. 3 words, lower case." The same phrases are found in a model's own reasoning (`line_claims`) and checked
against what the model then wrote (`check_line`), which gives the metric "faithfulness".

Why this order: on the untrained SmolLM2-135M, greedy, a line that ends in a list of key words ran on ("waste, waste,
waste") or used up its budget in 13 of 48 requests, and no answer came. With the topic first, at most three words with
an "and" before the last, that was 0 of 18, and 1 of 36 with a repeat penalty of 1.1. Other orders and lengths differ by
less than so few requests can show.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from prlm_edge.style.change import CHANGE, FILE, NAME, VERBS, Change
from prlm_edge.style.facts import TRAITS, Style, listed, plural
from prlm_edge.style.observe import Observation, content_words, long_words, observe
from prlm_edge.style.phrases import MAX_CHARS, key_phrases
from prlm_edge.types import Shape

MAX_FACTS = 3  # of a line, besides the length
MAX_KEY_WORDS = 3
MIN_SHARED_WORDS = 2  # content words that an earlier item must share to be cited,
MIN_COSINE = 0.08  # and their least cosine; 1 pair in 6 of the example profile's nearest items, half of paper authors'
_MAX_TAG = 30  # characters of a literal tag that a line repeats

_WRITER = "Usual style:"
_RECURS = "Recurring words:"
_ABOUT = "About"
_PHRASES = {phrase: key for key, (phrase, _) in TRAITS.items()}
_ORDER = ("case", "start", "tag", "colon", "verb", "end", "period")
_DEFAULT = ("case", "period")  # said where the writer has no steady facts
_CLAIM = re.compile(
    r"\[(?P<cites>\d{1,3})\]"
    r"|\b(?P<low>\d{1,4}) to (?P<high>\d{1,4}) words\b"
    r"|\b(?P<about>about )?(?P<words>\d{1,4}) words?\b"
    r"|(?<![\w-])(?P<phrase>" + "|".join(sorted(map(re.escape, _PHRASES), key=len, reverse=True)) + r")(?![\w-])",
    re.IGNORECASE,
)
_WORDS = re.compile(r"\w+")
_TAG_CLAIM = re.compile(r"\btag '([^'\n]{1,60})'", re.IGNORECASE)
_LIST = re.compile(rf"(?:^|(?<=[.;] ))\s*({_ABOUT}:?|{_RECURS})(?=\s)(?!\s\d+ words?\b)([^.;\n]*)", re.IGNORECASE)
_AND = re.compile(r",? and |, ?", re.IGNORECASE)
_CHANGED = re.compile(
    rf"(?:^|(?<=[.;] ))(?P<verb>{'|'.join(VERBS)}) (?P<names>{FILE}(?:(?:, | and ){FILE})*)"
    rf"|(?<=[:;] )(?:(?P<moves>adds|drops|touches) (?P<moved>{NAME}(?:(?:, | and ){NAME})*)|(?P<swap>{NAME} -> {NAME}))"
)
_PLAIN = re.compile(r"[\w -]+")  # a phrase that a list can hold


@dataclass(frozen=True)
class Claim:
    """One checkable statement of a reasoning line.

    Attributes:
        kind: "cites" an item, states the number of "words", a literal "tag", a "trait", names a "key word", or says
            what a "change" does.
        value: The item's number, a (low, high) number of words, the tag, the trait's key, the word, or what
            `Change.has` takes, such as "adds ttl".
        of: Whether it is said of the answer or of the writer's usual style.
    """

    kind: Literal["cites", "words", "tag", "trait", "key word", "change"]
    value: int | tuple[int, int] | str
    of: Literal["answer", "writer"] = "answer"


def style_line(style: Style) -> str:
    """What is usual for the writer, in one line; "" where nothing is steady.

    Example: "Usual style: lower case, about 6 words, a colon, no final period. Recurring words: notes, again."
    """
    facts = [fact for fact in style.facts if fact.key in TRAITS or fact.name in ("words", "tag")]
    if not facts:
        return ""
    line = f"{_WRITER} {', '.join(fact.phrase for fact in facts[: MAX_FACTS + 2])}."
    words = [word for word, count in style.recurring if count >= max(3, style.n / 8)][:3]
    return f"{line} {_RECURS} {', '.join(words)}." if words else line


def example_line(
    index: int,
    item_answer: str,
    item_text: str,
    earlier: Sequence[tuple[int, str]],
    style: Style,
    shape: Shape = "text",
) -> str:
    """The reasoning line of one past turn: true of `item_answer`, and never holding the answer itself.

    Args:
        index: The example's own number; an earlier item of this number is never cited.
        item_answer: What the user wrote.
        item_text: What it was written for.
        earlier: Number and text of the examples before it; the closest is cited if it shares enough words.
        style: The writer's steady facts, which choose what is said.
        shape: Of `item_text`: of a change it is said what changed, of others what they are about.

    Returns:
        About 25 words at most.
    """
    seen, item_text = observe(item_answer), item_text[:MAX_CHARS]
    said = _own_facts(seen, style)
    facts = ", ".join(said) + "."
    if shape == "change":
        lines = [f"{line} {facts}" for line in Change.of(item_text).lines(item_answer)]
        return _first_without(item_answer, [*lines, facts, f"{said[0]}.", f"about {said[0]}."])
    closest = _closest(f"{item_text} {item_answer}", [pair for pair in earlier if pair[0] != index])
    cites = [] if closest is None else [f"[{closest}] is closest."]
    topic = key_words(item_answer, item_text)
    # The line must not hold the answer: try fewer key words, then no citation, then fewer facts.
    choices = [[f"{_ABOUT} {listed(topic[:n])}."] for n in range(len(topic), 0, -1)]
    lines = [" ".join([*about, *cites, facts]) for about in [*choices, []]]
    lines += [facts, f"{said[0]}.", f"about {said[0]}."]
    return _first_without(item_answer, lines)


def key_words(answer: str, text: str) -> list[str]:
    """What the answer took from the text: its key phrases, then its most frequent words; else two of its own.

    A phrase counts where the answer has one of its words.
    """
    text = text.removeprefix(CHANGE)
    counts = Counter(content_words(text))  # keeps the order of the text, and so does most_common among equals
    in_answer, found = set(content_words(answer)), list[str]()
    phrases = [one.lower() for one in key_phrases(text) if _PLAIN.fullmatch(one) and long_words(one)]
    for one in [*phrases, *(word for word, _ in counts.most_common())]:
        if in_answer.intersection(new := set(long_words(one))) and not new & set(long_words(" ".join(found))):
            found.append(one)
    return found[:MAX_KEY_WORDS] or phrases[:2] or [word for word, _ in counts.most_common(2)]


def line_claims(line: str) -> list[Claim]:
    """The checkable statements of a line, ours or a model's: tags, key words, then the rest."""
    claims = []
    rest = line
    for match in _TAG_CLAIM.finditer(line):
        claims.append(Claim("tag", match[1], _of(line, match.start())))
        rest = _blank(rest, match)  # a tag is quoted text: what it holds is no claim
    for match in _LIST.finditer(rest):
        of: Literal["answer", "writer"] = "writer" if match[1].lower() == _RECURS.lower() else "answer"
        claims += [Claim("key word", word.strip().lower(), of) for word in _AND.split(match[2]) if word.strip()]
    rest = _LIST.sub(" ", rest)
    for match in _CHANGED.finditer(rest):
        verb, names = match["verb"] or match["moves"], match["names"] or match["moved"]
        said = [f"{verb} {name}" for name in _AND.split(names)] if names else [match["swap"]]
        claims += [Claim("change", one) for one in said]
    return claims + [_claim(match, _of(rest, match.start())) for match in _CLAIM.finditer(rest)]


def check_line(line: str, answer: str, n_items: int, style: Style, text: str = "") -> tuple[int, int]:
    """How many of a line's claims are true: (true, all).

    Args:
        line: A reasoning line.
        answer: The answer that follows it.
        n_items: Number of items in the prompt; a citation is true if such an item exists.
        style: The writer's style, for claims about it.
        text: What the answer was written for: a key word is true if answer or text has it, and what is said of a change
            if the text, that of a change, shows it.
    """
    judged = judge_line(line, answer, n_items, style, text)
    return sum(true for _, true in judged), len(judged)


def judge_line(line: str, answer: str, n_items: int, style: Style, text: str = "") -> list[tuple[Claim, bool]]:
    """A line's claims, in `line_claims`' order, and whether each is true; arguments as for `check_line`."""
    seen = observe(answer)
    words = set(long_words(answer)) | set(long_words(text))
    claims = line_claims(line)
    change = Change.of(text if any(claim.kind == "change" for claim in claims) else "")
    return [(claim, _is_true(claim, seen, words, change, n_items, style)) for claim in claims]


def _own_facts(seen: Observation, style: Style) -> list[str]:
    """How long this text is, and how it does what the writer does steadily; at least one clause.

    What the writer has crossed out is left out, the length only where there is anything else to say.
    """
    length, others = plural(seen.words), list(_own_habits(seen, style))
    return others if others and "words" in style.crossed_out else [length, *others]


def _own_habits(seen: Observation, style: Style) -> Iterator[str]:
    """How this text does what the writer does steadily, the most telling first."""
    crossed_out = {key.partition(":")[0] for key in style.crossed_out}
    names = [fact.name for fact in style.facts if fact.name not in ("words", "vocabulary", "first word")] or [
        name for name in _DEFAULT if name not in crossed_out
    ]
    chosen = sorted(dict.fromkeys(names).keys(), key=names.index)[:MAX_FACTS]
    if seen.tag and style.n and "tag" not in crossed_out:  # the tag implies the colon
        chosen = [*[name for name in chosen if name not in ("tag", "colon")][: MAX_FACTS - 1], "tag"]
    for name in sorted(chosen, key=lambda name: _ORDER.index(name) if name in _ORDER else 3):
        phrase = _own_phrase(name, seen)
        if phrase:
            yield phrase


def _own_phrase(name: str, seen: Observation) -> str:
    if name == "tag":
        return f"tag '{seen.tag}'" if seen.tag and len(seen.tag) <= _MAX_TAG and "'" not in seen.tag else ""
    if name in ("case", "start"):
        name = "start" if "start:lower" in seen.traits and "case:lower" not in seen.traits else "case"
    elif name in ("end", "period"):
        name = "period" if "end:none" in seen.traits else "end"
    return next((TRAITS[key][0] for key in seen.traits if key in TRAITS and key.split(":")[0] == name), "")


def _closest(text: str, earlier: Sequence[tuple[int, str]]) -> int | None:
    words = set(content_words(text))
    best, best_cosine = None, MIN_COSINE
    for number, other in earlier:
        others = set(content_words(other))
        shared = len(words & others)
        if shared < min(MIN_SHARED_WORDS, len(others)) or not shared:
            continue
        cosine = shared / math.sqrt(len(words) * len(others))
        if cosine > best_cosine:
            best, best_cosine = number, cosine
    return best


def _first_without(answer: str, lines: Sequence[str]) -> str:
    """The first of the lines that doesn't hold the answer; else the last."""
    return next((line for line in lines if not gives_away(answer, line)), lines[-1])


def gives_away(answer: str, line: str) -> bool:
    """Whether a line holds the answer as a run of whole words."""
    answer, line = (" ".join(_WORDS.findall(text.casefold())) for text in (answer, line))
    return bool(answer) and f" {answer} " in f" {line} "


def _of(line: str, at: int) -> Literal["answer", "writer"]:
    """Whose style position `at` is about: the writer's from "Usual style:" to the end of that sentence."""
    start = line.lower().find(_WRITER.lower())
    return "writer" if 0 <= start <= at and not re.search(r"\.\s", line[start:at]) else "answer"


def _blank(text: str, match: re.Match[str]) -> str:
    return text[: match.start()] + " " * (match.end() - match.start()) + text[match.end() :]


def _claim(match: re.Match[str], of: Literal["answer", "writer"]) -> Claim:
    if match["cites"]:
        return Claim("cites", int(match["cites"]), of)
    if match["low"]:
        return Claim("words", (int(match["low"]), int(match["high"])), of)
    if match["words"]:
        n = int(match["words"])
        slack = max(1, n // 5) if match["about"] else 0
        return Claim("words", (n - slack, n + slack), of)
    return Claim("trait", _PHRASES[match["phrase"].lower()], of)


def _is_true(claim: Claim, seen: Observation, words: set[str], change: Change, n_items: int, style: Style) -> bool:
    value = claim.value
    if claim.kind == "change":
        return change.has(str(value))
    if claim.kind == "cites":
        return isinstance(value, int) and 1 <= value <= n_items
    if claim.of == "writer":
        return _is_usual(claim, style)
    if isinstance(value, tuple):
        return value[0] <= seen.words <= value[1]
    if claim.kind == "tag":
        return seen.tag == value
    if claim.kind == "trait":
        return value in seen.traits
    named = long_words(str(value))  # a model may name a phrase
    return bool(named) and words.issuperset(named)


def _is_usual(claim: Claim, style: Style) -> bool:
    value = claim.value
    if isinstance(value, tuple):
        fact = style.fact("words")
        middle = fact.value[1] if fact else -1
        return isinstance(middle, int) and value[0] <= middle <= value[1]
    if claim.kind == "key word":
        return value in dict(style.recurring)
    return any(value in (fact.key, fact.value) for fact in style.facts)
