"""How a user's context and an answer become the reward model's token ids; training, export and the device use this.

    [CLS] habits [SEP] title ; title ... [SEP] answer [SEP] nearness, looks, habits broken [SEP] request [SEP]

The tokenizer is uncased, and cuts punctuation off: casing, length and endings would be lost on the model, so both sides
say them in words, in the same phrases (`style_facts.TRAITS`). Nor does a small model learn from some thousand pairs to
compare texts word by word: what an answer shares with the past and the request is counted for it (`nearness_line`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from prlm_edge.errors import ModelError, first_line, no_onnx
from prlm_edge.rerank.overlap import Counted, rouge_1, words
from prlm_edge.style import IMPLIES, TRAITS, Style, content_words, observe, plural, style_line
from prlm_edge.types import Scoring

ENCODING = 2  # of what `Encoder` makes; a model trained on another one is refused
MAX_LENGTH = 160  # tokens
MIN_LENGTH = 128

# Shares of the tokens. The answer, what is said of it and the habits come first; past titles may take the rest except
# the request's share; the request takes what remains.
_ANSWER, _NEAR, _LOOKS, _HABITS, _TITLE, _REQUEST = 0.28, 0.14, 0.22, 0.2, 0.16, 0.08
_WORTH = 8  # the least tokens of a title that are shown
_MAX_CHARS = 2000  # of one text; no text needs more for its tokens
_N_BROKEN = 4
ADVICE = "train and export it again"


class Encoded(NamedTuple):
    """Token ids and, as many, 0 for the user's side and 1 for the answer's."""

    ids: list[int]
    types: list[int]


class Encoder:
    """Makes token ids of a user's context and an answer.

    Args:
        tokenizer: A BERT-like tokenizer.json with [CLS] and [SEP].
        max_length: Tokens at most, at least `MIN_LENGTH`.

    Raises:
        MissingError: The package tokenizers is missing.
        ModelError: The file can't be loaded, or `max_length` is too small.
    """

    def __init__(self, tokenizer: Path, max_length: int = MAX_LENGTH) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise no_onnx("the reward model") from None
        if max_length < MIN_LENGTH:
            raise ModelError(f"a reward model of {max_length} tokens holds no pair", f"give it {MIN_LENGTH} or more")
        try:
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
        except Exception as error:  # tokenizers raises bare Exception
            raise ModelError(f"{tokenizer}: can't load the tokenizer: {first_line(error)}", ADVICE) from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = True  # "[SEP]" in a user's text is text
        self.max_length = max_length
        vocabulary: dict[str, int] = self._tokenizer.get_vocab()
        if not {"[CLS]", "[SEP]", "[PAD]"} <= vocabulary.keys():
            raise ModelError(f"{tokenizer}: no BERT tokenizer", ADVICE)
        self._cls, self._sep, self.pad_id = (vocabulary[token] for token in ("[CLS]", "[SEP]", "[PAD]"))

    def encode(self, context: Scoring, answer: str) -> Encoded:
        """At most `max_length` tokens, the answer's first ones always among them."""
        habits = self._ids(habits_line(context.style), _HABITS)
        said = self._ids(answer, _ANSWER)
        looks = self._ids(nearness_line(answer, context), _NEAR) + self._ids(looks_line(answer, context.style), _LOOKS)
        room = self.max_length - 6 - len(habits) - len(said) - len(looks)
        request = self._ids(context.query, 1.0)
        past = self._past(context, room - min(len(request), int(_REQUEST * self.max_length)))
        request = request[: room - len(past)]
        user = [self._cls, *habits, self._sep, *past, self._sep]
        text = [*said, self._sep, *looks, self._sep, *request, self._sep]
        return Encoded(user + text, [0] * len(user) + [1] * len(text))

    def _past(self, context: Scoring, room: int) -> list[int]:
        """Past titles, those that share most with the request first, whatever order the prompt showed them in."""
        wanted = set(content_words(context.query[:_MAX_CHARS]))
        near = sorted(context.past, key=lambda title: (-len(wanted.intersection(content_words(title))), title))
        semicolon = self._ids(";", 1.0)
        ids: list[int] = []
        for title in near:
            more = [*(semicolon if ids else ()), *self._ids(title, _TITLE)]
            if len(ids) + len(more) > room and room - len(ids) < _WORTH:
                break
            ids += more[: room - len(ids)]
        return ids

    def _ids(self, text: str, share: float) -> list[int]:
        clean = text[:_MAX_CHARS].encode("utf-8", "replace").decode()  # the tokenizer refuses lone surrogates
        ids: list[int] = self._tokenizer.encode(clean, add_special_tokens=False).ids
        return ids[: int(share * self.max_length)]


def habits_line(style: Style) -> str:
    """The user's habits as `style_lines` says them, without the heading every user's would begin with."""
    return style_line(style).removeprefix("Usual style: ")


def nearness_line(answer: str, context: Scoring) -> str:
    """How much of an answer the user's past and the request have too, in tenths.

    Example: "past 2, at best 5, subjects 3, request 8." The first two are ROUGE-1 with past texts, its mean and the
    highest; most are small, so their square roots are given. Subjects is the share of the answer's content words that
    any past text has, request the share of all of its words that the request has.
    """
    text, request = Counted(answer[:_MAX_CHARS]), frozenset(words(context.query))
    near = [rouge_1(text, Counted(one)) for one in context.past]
    past = math.sqrt(sum(near) / len(near)) if near else 0.0
    known = {word for one in context.past for word in content_words(one)}
    subjects = _share([word in known for word in content_words(text.text)])
    asked = _share([word in request for word in text.words])
    tenths = [round(10 * share) for share in (past, math.sqrt(max(near, default=0.0)), subjects, asked)]
    return "past {}, at best {}, subjects {}, request {}.".format(*tenths)


def looks_line(answer: str, style: Style) -> str:
    """What is countable of an answer, and which of the user's habits it breaks.

    Example: "6 words, sentence case, no colon, no final period. keeps 5 of 10: breaks lower case, a colon".
    """
    seen = observe(answer)
    silent = set().union(*(IMPLIES.get(key, ()) for key in (*seen.traits, *(("tag",) if seen.tag else ()))))
    held = set(seen.traits) - silent
    facts = [plural(seen.words), *(f"tag '{seen.tag}'" for _ in range(bool(seen.tag)))]
    facts += [phrase for key, (phrase, _) in TRAITS.items() if key in held]  # in the order of TRAITS: theirs varies
    line = ", ".join(facts) + "."
    if not style.facts:
        return line
    broken = [fact.phrase for fact in style.facts if not fact.seen_in(seen, answer)]
    kept = f"{line} keeps {round(10 * style.match(answer))} of 10"
    return f"{kept}: breaks {', '.join(broken[:_N_BROKEN])}" if broken else kept


def _share(values: Sequence[bool]) -> float:
    return sum(values) / len(values) if values else 0.0
