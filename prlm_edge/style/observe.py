"""Observes one text's style: its length, case, tag, ending, signs, first word. String work alone, no model.

`observe` looks at a text once. Whether a fact (`facts.py`) or a claim (`lines.py`) is true of the text is then read off
that observation.

Known limits: words are what white space separates, so scripts without spaces count as one word a line; function words
and verb forms are English.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

# A tag in brackets, or one word (with an optional scope) and a colon: "[net]", "docs:", "feat(api)!:", "Re:".
_TAG = re.compile(
    r"(?P<bracket>\[[^\[\]\n]{1,30}\])(?=[\s:]):?"
    r"|(?P<word>[\w./*+-]{1,40})(?P<scope>\([^()\n]{0,30}\))?!?:(?=\s)"
)
_WORD = re.compile(r"[\w\u0300-\u036f]{3,}")
_AROUND = "\"'“”‘’«»()[]*_`,.:;!?"
_CLOSERS = "\"'”’»)]}*_`"
_ENDING_OF = {".": "end:period", "?": "end:question", "!": "end:exclamation"}
_EMOJI = re.compile("[\u2600-\u27bf\U0001f300-\U0001faff]")
_HASHTAG = re.compile(r"(?:^|\s)#[^\W\d]")
_SPACED_HYPHEN = re.compile(r"\s--?\s")

_SIGN_OF = {
    **dict.fromkeys("0123456789", "number"),
    **dict.fromkeys('"“”«»„', "quotes"),
    **dict.fromkeys("—–", "dash"),
    "&": "ampersand",
    "(": "parentheses",
    ",": "comma",
    "`": "code",
    ":": "colon",
    "#": "hashtag?",
    "-": "dash?",
}
_SIGNS = re.compile("[" + re.escape("".join(_SIGN_OF)) + "]")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FUNCTION_WORDS = _words("""
    a about after again all also am an and any are aren as at be because been before being below between both
    but by can cannot could couldn did didn do does doesn doing don down during each few for from further get
    gets got had has hasn have haven having he her here hers him his how i if in into is isn it its itself just
    let like may me might more most much must my myself no nor not now of off on once one only onto or other our
    ours out over own per same she should shouldn so some such than that the their them then there these they
    this those through to too under until up upon us use used using very via was wasn we were weren what when
    where which while who whom whose why will with within without won would wouldn you your yours vs
""")
_FIRST_PERSON = _words("i i'd i'll i'm i've i’d i’ll i’m i’ve me my myself mine we our ours us")
_BASE_VERBS = _words("""
    add adjust allow ask avoid bake build bump change check clean convert copy correct create define delete
    disable document drop enable ensure expose extend extract fix handle implement import improve include
    introduce keep learn limit make merge migrate move optimize pass prevent print refactor remove rename
    reorder replace report restore return revert rewrite separate show simplify skip sort split store support
    switch sync test tidy try tweak update upgrade use validate write
""")
_IRREGULAR = {
    "build": "built",
    "keep": "kept",
    "make": "made",
    "rewrite": "rewrote",
    "write": "wrote",
    "show": "showed",
    "split": "",
    "learn": "learned",
}
_DOUBLING = frozenset({"drop", "skip", "split"})  # dropped, dropping


def _verb_forms() -> dict[str, str]:
    forms: dict[str, str] = {}
    for verb in _BASE_VERBS:
        y_to_i = verb.endswith("y") and verb[-2] not in "aeou"
        stem = verb + verb[-1] if verb in _DOUBLING else verb.removesuffix("e")
        past = _IRREGULAR.get(verb, (verb[:-1] + "ied") if y_to_i else stem + "ed")
        third = verb[:-1] + "ies" if y_to_i else verb + ("es" if verb.endswith(("s", "sh", "ch", "x")) else "s")
        forms |= {stem + "ing": "ing", third: "third", past: "past", verb: "imperative"}
    forms.pop("", None)
    return forms


_VERB_FORMS = _verb_forms()


class Observation(NamedTuple):
    """What was seen of one text.

    Attributes:
        words: Number of words, as white space separates them.
        tag: The tag's literal text with its colon ("docs:", "feat(api):", "[net]"), "" without one.
        first: First word after the tag, lower-case, without signs around it.
        traits: "name:value" keys that hold, such as "case:lower", "end:none", "colon:yes", "verb:imperative".
    """

    words: int
    tag: str
    first: str
    traits: tuple[str, ...]


def observe(text: str) -> Observation:
    """Observe one text; white space around it doesn't count."""
    text = text.strip()
    traits: list[str] = []
    tag, body = "", text
    match = _TAG.match(text)
    if match and match.end() < len(text):
        tag = match.group()
        body = text[match.end() :].lstrip()
        traits.append("tag:bracket" if match["bracket"] else "tag:scope" if match["scope"] else "tag:word")
    _add_case(text, body, traits)
    ending = _ending(text)
    traits.append(ending)
    if ending != "end:period":
        traits.append("period:no")
    _add_signs(text, traits)
    lowered = text.lower().split()
    first = body.split(None, 1)[0].lower().strip(_AROUND) if body else ""
    if first in _VERB_FORMS:
        traits.append("verb:" + _VERB_FORMS[first])
    if not _FIRST_PERSON.isdisjoint(lowered):
        traits.append("person:first")
    return Observation(len(lowered), tag, first, tuple(traits))


def _add_case(text: str, body: str, traits: list[str]) -> None:
    """Lower case and capitals are judged on the whole text, sentence and title case on what follows the tag."""
    if text.islower():
        traits += ("case:lower", "start:lower")
        return
    if text.isupper() and sum(map(str.isalpha, text)) > 1:
        traits.append("case:capitals")
        return
    if body.isupper():
        return  # "docs: API", "I": too little to tell
    first = next(filter(str.isalpha, body), "")
    if first.islower():
        traits.append("start:lower")
    elif first.isupper():
        traits.append("case:title" if _is_title_case(body) else "case:sentence")


def _is_title_case(body: str) -> bool:
    """Whether the words after the first start with capitals; function words, acronyms and numbers don't count."""
    words = body.split()[1:]
    small = set(filter(str.islower, words)) - FUNCTION_WORDS
    large = [w for w in words if not w.islower() and not w.isupper() and w[0].isupper()]
    shown = len(small) + len(large)
    return bool(large) and len(large) >= 0.75 * shown and (shown > 1 or len(words) == 1)


def _ending(text: str) -> str:
    last = text.rstrip(_CLOSERS)[-3:]
    if last.endswith(("...", "…")):
        return "end:ellipsis"
    return _ENDING_OF.get(last[-1:], "end:none")


def _add_signs(text: str, traits: list[str]) -> None:
    signs = {_SIGN_OF[c] for c in _SIGNS.findall(text)}
    if "hashtag?" in signs:
        signs.remove("hashtag?")
        if _HASHTAG.search(text):
            signs.add("hashtag")
    if "dash?" in signs:
        signs.remove("dash?")
        if _SPACED_HYPHEN.search(text):
            signs.add("dash")
    if not text.isascii() and _EMOJI.search(text):
        signs.add("emoji")
    traits += [sign + ":yes" for sign in signs]
    if "colon" not in signs:
        traits.append("colon:no")


def long_words(text: str) -> list[str]:
    """The text's words of three characters or more, lower-case, in order and with repeats; "can't" gives "can"."""
    return _WORD.findall(text.lower())


def carries_meaning(word: str) -> bool:
    """Whether a word of `long_words` is more than a function word or a bare number."""
    return word not in FUNCTION_WORDS and not word.isdigit()


def content_words(text: str) -> list[str]:
    """The text's words that carry meaning, lower-case, in order and with repeats."""
    return list(filter(carries_meaning, long_words(text)))


def usual_length_share(low: int, high: int) -> float:
    """The share of titles in general that have `low` to `high` words: a log-normal with median 8, sigma 0.5.

    Fitted by eye to paper titles (median 9) and commit subjects (median 7).
    """

    def below(n: float) -> float:
        return 0.5 * (1 + math.erf(math.log(n / 8) / (0.5 * math.sqrt(2))))

    return max(1e-4, below(high + 0.5) - below(max(low - 0.5, 0.1)))
