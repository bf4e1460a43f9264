"""The personalization reward model: how likely it is that this user wrote this answer to this request.

    [CLS] habits [SEP] title ; title ... [SEP] answer [SEP] what it looks like, habits it breaks [SEP] request [SEP]

`Encoder` is the one way in which a pair of user and answer becomes token ids: training, export and the device use it.
The tokenizer is uncased, and cuts punctuation off: casing, length and endings would be lost on the model, so both sides
say them in words, in the same phrases (`style_facts.TRAITS`). Not here: training (`prlm_edge.train.reward_model`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from prlm_edge.cpu import default_threads
from prlm_edge.errors import MissingError, ModelError
from prlm_edge.style import TRAITS, Style, plural
from prlm_edge.style_facts import IMPLIES
from prlm_edge.style_lines import style_line
from prlm_edge.style_traits import content_words, observe
from prlm_edge.types import Candidate, Scoring

ENCODING = 1  # of what `Encoder` makes; a model trained on another one is refused
MAX_LENGTH = 160  # tokens
MIN_LENGTH = 96
CARD = "reward.json"

# Shares of the tokens. The answer, its looks and the habits come first; past titles may take the rest but for the
# request's share; the request takes what is left.
_ANSWER, _LOOKS, _HABITS, _TITLE, _REQUEST = 0.3, 0.22, 0.2, 0.16, 0.15
_WORTH = 8  # tokens of a title that are worth showing
_MAX_CHARS = 2000  # of one text; no text needs more for its tokens
_N_BROKEN = 4
_ADVICE = "train and export it again"


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
            raise no_packages() from None
        if max_length < MIN_LENGTH:
            raise ModelError(f"a reward model of {max_length} tokens holds no pair", f"give it {MIN_LENGTH} or more")
        try:
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
        except Exception as error:  # tokenizers raises bare Exception
            raise ModelError(f"{tokenizer}: can't load the tokenizer: {_line(error)}", _ADVICE) from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = True  # "[SEP]" in a user's text is text
        self.max_length = max_length
        vocabulary: dict[str, int] = self._tokenizer.get_vocab()
        if not {"[CLS]", "[SEP]", "[PAD]"} <= vocabulary.keys():
            raise ModelError(f"{tokenizer}: no BERT tokenizer", _ADVICE)
        self._cls, self._sep, self.pad_id = (vocabulary[token] for token in ("[CLS]", "[SEP]", "[PAD]"))

    def encode(self, context: Scoring, answer: str) -> Encoded:
        """At most `max_length` tokens, the answer's first ones always among them."""
        habits = self._ids(habits_line(context.style), _HABITS)
        said = self._ids(answer, _ANSWER)
        looks = self._ids(looks_line(answer, context.style), _LOOKS)
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


class RewardScorer:
    """Chooses the answer that this user is likeliest to have written; a `types.Scorer`.

    Each pair runs alone on one thread, several at a time: the int8 model scales its activations by all that runs
    together, so that in a batch a score would depend on the other candidates and on padding.

    Args:
        folder: Holds model.onnx, tokenizer.json and reward.json.
        threads: Pairs scored at a time; 0 takes one a physical core.

    Raises:
        MissingError: onnxruntime or tokenizers is missing.
        ModelError: The files are missing, damaged or of another version.
    """

    name = "reward"
    needs_logprobs = False

    def __init__(self, folder: Path, threads: int = 0) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise no_packages() from None
        card = read_card(folder)
        self.encoder = Encoder(folder / "tokenizer.json", int(card["max_length"]))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises classes of its own
            raise ModelError(f"{folder}: can't load the reward model: {_line(error)}", _ADVICE) from error
        self._inputs = {entry.name for entry in self._session.get_inputs()}
        self._threads = threads or default_threads()

    def score(self, candidates: Sequence[Candidate], context: Scoring) -> list[float]:
        """A logit for each candidate, higher is better; differences are those of Bradley and Terry."""
        return self.score_all([(context, candidate.answer) for candidate in candidates])

    def score_all(self, pairs: Sequence[tuple[Scoring, str]]) -> list[float]:
        """The score of each (context, answer); equal ones are run once."""
        encoded = [self.encoder.encode(context, answer) for context, answer in pairs]
        keys = [tuple(one.ids) for one in encoded]
        distinct = dict(zip(keys, encoded, strict=True))
        with ThreadPoolExecutor(max(1, min(self._threads, len(distinct)))) as pool:
            scores = dict(zip(distinct, pool.map(self._run, distinct.values()), strict=True))
        return [scores[key] for key in keys]

    def _run(self, encoded: Encoded) -> float:
        import numpy as np

        ids = np.array([encoded.ids], np.int64)
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.array([encoded.types])}
        feeds["token_type_ids"] = feeds["token_type_ids"].astype(np.int64)
        try:
            return float(self._session.run(None, {name: feeds[name] for name in self._inputs})[0].reshape(-1)[0])
        except Exception as error:  # onnxruntime raises classes of its own
            raise ModelError(f"the reward model failed: {_line(error)}", _ADVICE) from error


def read_card(folder: Path) -> dict[str, Any]:
    """What reward.json says of the model beside it.

    Raises:
        ModelError: It is missing or damaged, or the model or tokenizer is not the one it was written for.
    """
    from prlm_edge.models import sha256_of

    path = folder / CARD
    try:
        card = json.loads(path.read_bytes())
        promised = {name: str(card["sha256"][name]) for name in ("model.onnx", "tokenizer.json")}
        encoding, _ = int(card["encoding"]), int(card["max_length"])
    except FileNotFoundError:
        raise ModelError(
            f"{folder}: no reward model in it", f"it must hold model.onnx, tokenizer.json and {CARD}"
        ) from None
    except (OSError, ValueError, KeyError, TypeError):
        raise ModelError(f"{path}: damaged", _ADVICE) from None
    if encoding != ENCODING:
        raise ModelError(f"{folder}: a reward model of encoding {encoding}, not {ENCODING}", _ADVICE)
    for name, sha256 in promised.items():
        if sha256_of(folder / name) != sha256:
            raise ModelError(f"{folder / name}: not the file that {CARD} was written for", _ADVICE)
    return dict(card)


def no_packages() -> MissingError:
    """What to say where onnxruntime or tokenizers is missing."""
    return MissingError("the reward model needs onnxruntime and tokenizers", 'pip install "prlm-edge[onnx]"')


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
