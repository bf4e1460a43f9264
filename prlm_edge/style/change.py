"""What a change to files says of itself: its files, and the names that came, went or took another's place.

Read from the text that `prlm_edge.ingest` makes of a diff: "Changed files: a, b (new)", then lines that begin with + or
-, and [old -> new] where a line stayed but for a part of it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from prlm_edge.style.facts import listed
from prlm_edge.style.observe import carries_meaning, long_words, observe
from prlm_edge.style.phrases import MAX_CHARS

CHANGE = "Changed files:"  # how the text of a change begins
#: How a line says what happened to a file -> how the text says it, in brackets behind the file's name.
VERBS = {"New": "new", "Deletes": "deleted", "Renames": "renamed", "Changes": ""}
FILE = r"[\w./+-]*\w"
NAME = r"[^\W\d]\w+(?:-\w+)*\w"
_MAX_FILES, _MAX_NAMES = 2, 3  # that a line says
_MAX_NAME_CHARS = 30  # more costs a line too many tokens
_FILE = re.compile(rf"(?:^|, )({FILE})(?: \((?!\+)([^()]*)\))?(?=, | \(\+\d+ more\)$|$)")
_NAME = re.compile(NAME)
_SWAP = re.compile(r"\[([^\[\]]{0,160}) -> ([^\[\]]{0,160})\]")
_PARTS = re.compile(r"[A-Z]?[^\W\d_A-Z]{2,}|[A-Z]{3,}(?![a-z])")
_TEST = re.compile(r"\btests?\b|_test\b|\btest_|\bspecs?\b", re.IGNORECASE)
_KEYWORD_LIST = """
    assert async await bool break case catch char class const continue def default define del describe double elif else
    end enum expect export extends extern false final float foreach func function global goto impl implements import
    include inline int interface lambda let long match mut namespace new nil none null number object override package
    pass private protected pub public raise require return self short signed sizeof static str string struct super
    switch template throw throws trait true try type typedef typename undefined union unless unsigned val var void
    volatile yield
"""
_KEYWORDS = frozenset(_KEYWORD_LIST.split())


@dataclass(frozen=True)
class Change:
    """A change to files.

    Attributes:
        files: Base name -> (path, what happened to the file beside changed lines, such as "new").
        names: How a line says what happened to names -> these, those that stand there most often first: of "adds" those
            in lines that came, of "drops" those in lines that went, of "touches" those in both.
        swaps: Pairs of a name that went and the one in its place.
    """

    files: Mapping[str, tuple[str, str]]
    names: Mapping[str, Sequence[str]]
    swaps: Counter[tuple[str, str]]

    @classmethod
    def of(cls, text: str) -> Change:
        """Read the first `MAX_CHARS` characters of a change's text; in any other text nothing is found."""
        head, _, body = text[:MAX_CHARS].partition("\n")
        named = _FILE.findall(head.removeprefix(CHANGE).strip()) if head.startswith(CHANGE) else []
        files = {path.rpartition("/")[2]: (path, kind) for path, kind in named}
        came, went, swaps = Counter[str](), Counter[str](), Counter[tuple[str, str]]()
        for old, new in _edits(body.splitlines() if files else ()):
            went.update(old)
            came.update(new)
            gone, fresh = set(old) - set(new), set(new) - set(old)
            swaps.update(zip(gone, fresh, strict=True) if len(gone) == len(fresh) == 1 else ())
        both = came.keys() & went.keys()
        of_verb = {"adds": came.keys() - both, "drops": went.keys() - both, "touches": both}
        often = [name for name, _ in (came + went).most_common()]
        names = {verb: [name for name in often if name in those] for verb, those in of_verb.items()}
        return cls(files, names, swaps)

    def has(self, said: str) -> bool:
        """Whether it is true what is said, such as "New cache.py", "adds ttl" or "lru -> ttl"."""
        verb, _, name = said.partition(" ")
        if name.startswith("-> "):
            return (verb, name[3:]) in self.swaps
        if verb in self.names:
            return name in self.names[verb]
        return name in self.files and any(how.startswith(VERBS[verb]) for how in self.files[name][1].split(", "))

    def lines(self, answer: str) -> list[str]:
        """What leads to `answer`, with less and less in it, such as "Changes a.py: adds ttl and size; drops lru."."""
        words = set(long_words(answer))
        ranked = sorted(self.files, key=lambda name: self._distance(name, words))
        if not ranked:
            return []
        near = [name for name in ranked[:_MAX_FILES] if _share(name, words)]
        verb = next(verb for verb in VERBS if self.has(f"{verb} {ranked[0]}"))
        said = f"{verb} {listed([name for name in near or ranked[:1] if self.has(f'{verb} {name}')])}"
        body = answer.strip().removeprefix(observe(answer).tag)  # the tag is said apart
        moved = "; ".join(self._moved(set(long_words(body))))
        return [f"{said}: {moved}.", f"{said}."] if moved else [f"{said}."]

    def _distance(self, name: str, words: set[str]) -> tuple[float, float, bool]:
        """How far a file is from an answer of these words; smaller is nearer, and tests are far."""
        path = self.files[name][0]
        return -_share(name, words), -_share(path, words), bool(_TEST.search(path))

    def _moved(self, words: set[str]) -> list[str]:
        """The names of which an answer of these words speaks: one in another's place, or those that came or went."""
        verbs = {name: verb for verb, names in self.names.items() for name in names}
        shares = {name: _share(name, words) for name in filter(_tells, verbs)}
        ranked = sorted(filter(shares.get, shares), key=lambda name: (-shares[name], verbs[name] == "touches"))
        swaps = [
            pair for pair, _ in self.swaps.most_common() if ranked[:1] and ranked[0] in pair and all(map(_tells, pair))
        ]
        if swaps:
            return [" -> ".join(swaps[0])]
        chosen: list[str] = []
        for name in ranked:
            if _parts(name) & words - _parts(*chosen) and len(chosen) < _MAX_NAMES:  # it says something more
                chosen.append(name)
        said = {verb: [name for name in chosen if verbs[name] == verb] for verb in self.names}
        return [f"{verb} {listed(names)}" for verb, names in said.items() if names]


def _edits(lines: Sequence[str]) -> Iterator[tuple[list[str], list[str]]]:
    """The names of each old line and those of the line in its place; either may be empty."""
    old: list[list[str]] = []
    new: list[list[str]] = []
    for line in (*lines, ""):
        sign = line[:2] if line[:2] in ("- ", "+ ") else ""
        if not sign or (new and sign == "- "):
            for i in range(max(len(old), len(new))):
                yield old[i] if i < len(old) else [], new[i] if i < len(new) else []
            old, new = [], []
        if sign:
            (new if sign == "+ " else old).append(_NAME.findall(line[2:]))
        else:
            yield from ((_NAME.findall(a), _NAME.findall(b)) for a, b in _SWAP.findall(line))


def _tells(name: str) -> bool:
    return len(name) <= _MAX_NAME_CHARS and carries_meaning(name.lower()) and name.lower() not in _KEYWORDS


def _parts(*names: str) -> set[str]:
    """The names as a whole and their parts: of "get_TTLCache" also get, ttl and cache."""
    return {part.lower() for name in names for part in (name, *_PARTS.findall(name))}


def _share(name: str, words: set[str]) -> float:
    """The share of a name's parts that are among `words`, and a little for each; 2 where one of them is all of it."""
    parts = _parts(name) - {name.lower()} or {name.lower()}
    if name.lower() in words - parts:
        return 2.0
    n = len(parts & words)
    return n / len(parts) + n / 100
