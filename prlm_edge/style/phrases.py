"""The key phrases of a text: what it is about in a few of its own words, as its author might say it in a request.

Candidates are runs of words between stop words and punctuation, as in RAKE (Rose et al., "Automatic keyword extraction
from individual documents", 2010). They are ranked by how often they stand in the text and by how rarely they stand in
others: everyday words count as stop words, names and identifiers count more.

Known limits: the stop words are English. Of other languages the most frequent longer words are taken, of scripts
without spaces the first words.
"""

from __future__ import annotations

import math
import re
from collections import Counter

from prlm_edge.style.observe import FUNCTION_WORDS

MAX_PHRASES = 3
MAX_WORDS = 8  # of all phrases together
MAX_CHARS = 4000  # of a text that are looked at
_MAX_PHRASE = 3  # words
_MAX_WORD_CHARS = 40  # what is longer is data
_UNSPACED_CHARS = 20  # taken of a script without spaces
_NAME_WEIGHT = 1.5
_VERB_WEIGHT = 0.7  # of what ends like a verb or an adverb
_EARLY_WEIGHT = 1.3  # of what stands in the first fifth already
_ENGLISH = 0.2  # share of stop words from which a text counts as English
_NO_WORDS = re.compile(r"\S+://\S+|\S+@\S+|\[name\]|\[email\]")
_TOKEN = re.compile(r"\w[\w+#]*(?:[-._/](?=\w)[\w+#]+)*|['’]\w+|\n|[^\w\s]")
_SENTENCE_ENDS = frozenset('.!?:\n•-*"“')
_POSSESSIVE = ("'s", "’s")
_NAME = re.compile(r"\w+[A-Z_\d./#+]")  # an inner capital, a digit or a sign: an acronym, a version, an identifier
_VERB = re.compile(r"(?:ed|ing|ly)$")
_UNSPACED = re.compile("[\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u9fff]")
_SENTENCE_END = re.compile(r"[\s。、，．！？!?,.]+")
# Words of more than one text in twenty of some 3,400 posts on software, research and government, and the like.
_EVERYDAY_WORDS = """
    ability able above across actually add added adding addition additional ago allow allowed allows almost along
    already although always amount another answer anyone anything apply approach area around ask asked available
    away back based basic became become becomes began begin beginning behind believe best better big bit blog book
    break bring brings build building built called came care case cases change changes check choose clear close come
    comes coming common complete completely consider continue couple create created creating current currently cut
    date day days deal decide decided default detail details didn different difficult discuss discussed done doing
    don earlier early easier easily easy either else end enough entire especially etc even eventually ever every
    everyone everything exactly example examples existing expect explain fact far fast feel felt figure final
    finally find fine first five follow following form found four full fun further future gave general generally
    give given gives giving goal goals goes going gone good got great group guess half hand happen happened happens
    happy hard having hear help helped helpful helps high hold home hope hour hours however huge idea ideas image
    important improve include included includes including instead interested interesting issue issues join keep kept
    kind knew know known large last late later latest lead learn learned least left less let level life likely line
    list little live ll long longer look looked looking looks lot lots love made main major make makes making man
    many matter maybe mean means mention mentioned method mine minute minutes moment month months morning move moved
    moving multiple name nearly necessary need needed needs never new next nice night note nothing number often ok
    old one ones open option options order original others overall page part particular parts past pay people
    perfect perhaps person pick piece place places plan play please plus point points possible post posts pretty
    previous probably problem problems process project projects provide provided provides provides public put
    putting question questions quick quickly quite ran rather re read readers reading ready real really reason
    reasons recent recently related released remember rest result results right room run running runs said saw say
    saying says second section see seem seems seen sense set several share short show showed showing shown shows
    side similar simple simply since single six size small solution someone something sometimes soon sort space
    special specific spend spent stand start started starting starts state stay step steps stick still stop stuff
    sure system take taken takes taking talk talked tell ten text thank thanks thing things think thinking third
    though thought three thus time times today together told tomorrow took top total track tried tries true truly
    try trying turn turned turns twice two type types understand unfortunately update updated useful user users
    usually value various ve version view wait wanted wants want way ways week weeks welcome well went whatever
    whether whole wide within wonder word words work worked working works world worth wouldn write writes writing
    written wrong wrote yeah year years yes yesterday yet young six seven eight nine eleven twelve nineteen twenty
    thirty forty fifty sixty hundred hundreds thousand thousands january february march april june july august
    september october november december monday tuesday wednesday thursday friday saturday sunday
"""
_EVERYDAY = frozenset(_EVERYDAY_WORDS.split())


def key_phrases(text: str) -> list[str]:
    """Up to three key phrases of `text`, the most telling first, at most `MAX_WORDS` words in all; [] of no words.

    Lower-case but for names. Only the first `MAX_CHARS` characters count.
    """
    tokens = _cased(_TOKEN.findall(_NO_WORDS.sub(" . ", text[:MAX_CHARS])))
    words = [token for token in tokens if token[0].isalpha()]
    if not words:
        return []
    if sum(len(_UNSPACED.findall(word)) for word in words) * 2 > sum(map(len, words)):
        first = next(part for part in _SENTENCE_END.split(text) if _UNSPACED.search(part))
        return [first[:_UNSPACED_CHARS]]
    lowered = [word.lower() for word in words]
    english = sum(word in FUNCTION_WORDS for word in lowered) >= _ENGLISH * len(words)
    runs = _runs(tokens, min_chars=3 if english else 5) or _runs(tokens, min_chars=1)
    return _chosen(runs, phrases=english)


def _cased(tokens: list[str]) -> list[str]:
    """The tokens with the first words of sentences in lower case, but for those with a capital elsewhere too."""
    first = [before in _SENTENCE_ENDS for before in ("\n", *tokens[:-1])]
    names = {token for token, is_first in zip(tokens, first, strict=False) if not is_first}
    return [
        token.lower() if is_first and token.istitle() and token not in names else token
        for token, is_first in zip(tokens, first, strict=False)
    ]


def _runs(tokens: list[str], min_chars: int) -> list[list[str]]:
    """The words between stop words, everyday words, short words and signs, in the order of the text."""
    runs: list[list[str]] = [[]]
    for token in tokens:
        word = token.lower()
        if word in _POSSESSIVE:
            continue
        dull = word in FUNCTION_WORDS or word in _EVERYDAY
        if dull or not min_chars <= len(word) <= _MAX_WORD_CHARS or not word[0].isalpha():
            runs.append([])
        else:
            runs[-1].append(token)
    return [run for run in runs if run]


def _chosen(runs: list[list[str]], *, phrases: bool) -> list[str]:
    """The best of the runs' words and, with `phrases`, of their neighbours that stand together more than once."""
    forms: dict[str, Counter[str]] = {}  # of each stem the ways that it is written, most often first
    counts: Counter[tuple[str, ...]] = Counter()
    first: dict[tuple[str, ...], int] = {}
    place = 0
    for run in runs:
        stems = [_stem(token) for token in run]
        for i, (stem, token) in enumerate(zip(stems, run, strict=True)):
            forms.setdefault(stem, Counter())[token] += 1
            for length in range(1, min(_MAX_PHRASE, len(run) - i) + 1 if phrases else 2):
                key = tuple(stems[i : i + length])
                counts[key] += 1
                first.setdefault(key, place)
            place += 1
    written = {stem: _written(found) for stem, found in forms.items()}

    def score(key: tuple[str, ...]) -> float:
        is_name = counts[key] > 1 and not all(written[stem].islower() for stem in key)
        weight = _NAME_WEIGHT if is_name else 1.0
        weight *= _VERB_WEIGHT if _VERB.search(key[-1]) else 1.0
        weight *= _EARLY_WEIGHT if first[key] * 5 <= place else 1.0
        return weight * math.pow(counts[key], 0.9) * math.pow(len(key), 0.8)

    several = (key for key, n in counts.items() if len(key) == 1 or n > 1)
    chosen: list[tuple[str, ...]] = []
    for key in sorted(several, key=lambda key: (-score(key), first[key])):
        taken = {stem for one in chosen for stem in one}
        if not taken.intersection(key) and len(taken) + len(key) <= MAX_WORDS:
            chosen.append(key)
        if len(chosen) == MAX_PHRASES:
            break
    return [" ".join(written[stem] for stem in key) for key in chosen]


def _stem(token: str) -> str:
    """The word without a plural ending: enough to count "shader" and "shaders" as one."""
    word = token.lower()
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def _written(forms: Counter[str]) -> str:
    """How a word is written in the text: lower-case unless it is a name, which most often begins with a capital."""
    (usual, _), *_ = forms.most_common(1)
    capital = sum(n for form, n in forms.items() if not form[0].islower())
    return usual if capital * 2 > forms.total() or _NAME.match(usual) else usual.lower()
