"""An answer against what was asked: which names in it are made up."""

from __future__ import annotations

import re
from collections.abc import Iterator

from prlm_edge.retrieve import tokenize
from prlm_edge.style import carries_meaning, observe

_CODE = re.compile(r"(`+)([^`]+)\1")
_PIECE = re.compile(r"[^\s\-–—,;()\[\]{}\"“”«»<>|=*]+")  # dashes of all lengths
_AROUND = ".:!?'’‘…`#"
_STARTS = tuple(".:!?…—–-|\"“«([{]'‘*`")  # a capital after one of these may be the sentence's
_MARKED = re.compile(r"\d|_|[^\W_]{2}(?:[.\\@]|::)\w|/\w+/|[a-z][A-Z]|[A-Z]{2}")
_RUN = re.compile(r"[\w+#]+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_BORDER = re.compile(r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")
_SPELLED = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_STEM = 4  # letters: names are known by their beginning, "Bayesian" by "Bayes"; shorter ones must be there whole


class Known:
    """What an answer may name: the texts of the request and of the past items that it was shown."""

    def __init__(self, *texts: str) -> None:
        self._text = "\n".join(texts)
        self._terms = frozenset(_terms(self._text))

    def invented(self, answer: str) -> list[str]:
        """The names, numbers and identifiers of `answer` that stand in none of the texts, in their order.

        Names are what can be told from other words: text in backquotes, words with digits, "_", inner capitals, dots or
        slashes, and capitalised words that don't begin a sentence, unless the answer is in title case or in capitals.
        A name is known where all its parts are, in any spelling: `user_id` by "user id", "Bayesian" by "Bayes".
        """
        return [name for name in _names(answer) if not self._has(name)]

    def _has(self, name: str) -> bool:
        runs = _RUN.findall(_NUMBER.sub(" ", name))
        return all(map(self._has_number, _NUMBER.findall(name))) and all(map(self._has_word, runs))

    def _has_number(self, number: str) -> bool:
        if number.isdecimal() and len(number) < 3 and not self._terms.isdisjoint(_SPELLED[int(number) :][:1]):
            return True
        return re.search(rf"(?<!\d)(?<!\d\.){re.escape(number)}(?!\d)", self._text) is not None

    def _has_word(self, word: str) -> bool:
        whole, *parts = [term for term in tokenize(word) if len(term) > 1] or [""]
        return not whole or self._has_term(whole) or (bool(parts) and all(map(self._has_term, parts)))

    def _has_term(self, term: str) -> bool:
        if not self._terms.isdisjoint((term, term.removesuffix("s"), term + "s")):
            return True
        stem = term[: max(_STEM, len(term) - 3)]
        return len(term) >= _STEM and any(known.startswith(stem) for known in self._terms)


def _terms(text: str) -> list[str]:
    return tokenize(_BORDER.sub(" ", text))


def _names(text: str) -> Iterator[str]:
    """See `Known.invented`."""
    yield from (match[2] for match in _CODE.finditer(text))
    text = _CODE.sub("` `", text)
    plain = [word for word in text.split() if word.islower() and word.replace("-", "").isalpha()]
    says_names = any(map(carries_meaning, plain)) and "case:title" not in observe(text).traits  # with its capitals
    for match in _PIECE.finditer(text):
        piece = match.group().strip(_AROUND).removesuffix("’s").removesuffix("'s")
        before = text[: match.start()].rstrip()
        begins = not before or before.endswith(_STARTS) or match.group()[0] in _STARTS
        if piece.isalpha() and (text.isupper() or begins) and piece.isupper():
            continue  # "BUG: ...", "[CI] ..."
        capital = len(piece) > 1 and piece[0].isupper() and carries_meaning(piece.lower())
        if _MARKED.search(piece) or (says_names and not begins and capital):
            yield piece
