"""The frozen dataclasses and Protocols that all packages share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from prlm_edge.style import Style

Role = Literal["system", "user", "assistant"]
Reasoning = Literal["auto", "show", "hide", "off"]
FinishReason = Literal["stop", "length", "cancelled"]
#: What a request is made of: a few words, a text, or a change to files.
Shape = Literal["topic", "text", "change"]
#: Where an answer of ours that became an item comes from: the user changed it, or took it as it was (`Item.teaches`).
Origin = Literal["edited", "accepted"]
ACCEPTED: Origin = "accepted"


@dataclass(frozen=True)
class Item:
    """One piece of a user's past writing: one line of a profile.

    Attributes:
        id: Unique within its profile.
        text: What the writing is about: a post's body, an abstract, a commit's changed files. May be empty.
        title: What the user wrote for it: title, headline, subject. May be empty (then `text` is the writing).
        date: ISO 8601, possibly only a prefix ("2024", "2024-08"); "" when unknown. Prefixes sort as strings.
        kind: Free label such as "post", "talk", "commit".
        source: Where it came from, such as "git:repo" or a file name.
        meta: Anything else the file's `meta` object holds. Three of its keys are known: "topic", "change" and "origin".
    """

    id: str
    text: str = ""
    title: str = ""
    date: str = ""
    kind: str = ""
    source: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def content_hash(self) -> str:
        """32 hex digits over `title` and `text`: equal where these are, whatever the id, date or source."""
        return _digest(self.title, self.text)

    @cached_property  # the only one: a second would cost each item 380 bytes, since its dict would no longer share keys
    def search_hash(self) -> str:
        """32 hex digits over what `searchable` is made of; the content hash where there is no topic and no change."""
        if not (self.topic or self.change):
            return self.content_hash
        return _digest(self.title, self.text, self.topic, self.change)

    @property
    def topic(self) -> str:
        """What the writing is about in a few words, such as a post's description or tags; "" where nobody said."""
        return self._meta_text("topic")

    @property
    def change(self) -> str:
        """A commit's diff as a request's diff is told, in a few hundred characters; "" where it isn't kept."""
        return self._meta_text("change")

    @property
    def teaches(self) -> bool:
        """Whether the item shows how its user writes: it is searched, shown, counted and trained on only then.

        A draft that was accepted as it was does not: the program would imitate itself.
        """
        return self._meta_text("origin") != ACCEPTED

    def _meta_text(self, key: str) -> str:
        value = self.meta.get(key)
        return value.strip() if isinstance(value, str) else ""

    @property
    def searchable(self) -> str:
        """The text that retrieval indexes: title, topic, text, and the lines of the change that the text lacks."""
        change = (line for line in self.change.split("\n") if line not in self.text)
        return "\n".join(part for part in (self.title, self.topic, self.text, *change) if part).strip()


def _digest(*texts: str) -> str:
    joined = "\0".join(text.strip() for text in texts)
    return blake2b(joined.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def sortable(date: str) -> str:
    """An item's date for comparing: "" for what is no ISO date, so that it never counts as the newest."""
    return date if date[:4].isdigit() else ""


@dataclass(frozen=True)
class Hit:
    """A retrieved item.

    Attributes:
        item: The item.
        score: The retriever's own score, higher is better; comparable within one search only.
        parts: What the score is made of, such as {"bm25_rank": 1, "dense_rank": 4} in hybrid search.
    """

    item: Item
    score: float
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Span:
    """A run of prompt text.

    Attributes:
        text: The text.
        trusted: True for our own scaffolding, in which control tokens are parsed. Text of the profile or of the query
            is
            never trusted: a backend tokenizes it as plain text.
        role: The role of its turn in the chat template; "" for the template's own text.
    """

    text: str
    trusted: bool = False
    role: Role | Literal[""] = field(default="", compare=False)


@dataclass(frozen=True)
class Turn:
    """One chat turn, as trusted and untrusted spans."""

    role: Role
    spans: tuple[Span, ...]

    @property
    def text(self) -> str:
        """The turn's whole text."""
        return "".join(span.text for span in self.spans)


@dataclass(frozen=True)
class Drop:
    """Something that the token budget left out of the prompt.

    Attributes:
        what: "item" (left out whole), "item_text" (shortened) or "query" (shortened).
        id: The item's id; "" for the query.
        kept: Tokens kept.
        total: Tokens before; a lower bound where a very long text was not tokenized whole.
        reason: Why, in one clause for people.
    """

    what: Literal["item", "item_text", "query"]
    id: str
    kept: int
    total: int
    reason: str


@dataclass(frozen=True)
class TokenizedPrompt:
    """A prompt as a local model's tokens, ready to be evaluated.

    Attributes:
        tokens: Token ids, the opening tag of what the model writes first included.
        cuts: Where calls to the model end, increasing; the last one is the prompt's length.
        digests: For each cut, 16 bytes that are equal where all tokens and cuts up to it are equal.
        n_stable: How many of the cuts are before the last user turn: other requests may share these.
        n_opening: How many of the tokens, at the end, are the opening tag.
        replies: (start, end) of each untrusted text in past assistant turns, in tokens.
        turns: What it was made of.
        reasons: Whether the opening tag is the reasoning's.
        maker: The tokenizer that made it. Only a backend with this very tokenizer takes it as it is.
    """

    tokens: tuple[int, ...]
    cuts: tuple[int, ...]
    digests: tuple[bytes, ...]
    n_stable: int
    n_opening: int = 0
    replies: tuple[tuple[int, int], ...] = ()
    turns: Sequence[Turn] = field(default=(), repr=False, compare=False)
    reasons: bool = False
    maker: object = field(default=None, repr=False, compare=False)

    def shared(self, digests: Sequence[bytes]) -> int:
        """How many leading cuts are those of `digests`."""
        pairs = enumerate(zip(self.digests, digests, strict=False))
        return next((i for i, (a, b) in pairs if a != b), min(len(self.digests), len(digests)))


@dataclass(frozen=True)
class Prompt:
    """A rendered prompt.

    Attributes:
        turns: The chat turns; the last one is the user's request.
        used: The hits that the prompt shows, in prompt order.
        dropped: What the budget left out, for the report.
        tokens: Prompt tokens by the backend's tokenizer, scaffolding included, the opening tag excluded.
        tokenized: The same prompt as token ids; None where the model's tokenizer is not in this process.
    """

    turns: tuple[Turn, ...]
    used: tuple[Hit, ...] = ()
    dropped: tuple[Drop, ...] = ()
    tokens: int = 0
    tokenized: TokenizedPrompt | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. `temperature=0` is greedy and ignores the other fields but `repeat_penalty`.

    The penalty is on by default: without it small models fall into loops, above all when greedy.
    """

    temperature: float = 0.0
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.1
    seed: int = 0


@dataclass(frozen=True)
class Request:
    """What a backend is asked to do.

    Attributes:
        turns: The chat turns, the last one the user's.
        sampling: How tokens are chosen.
        reasoning_tokens: Budget for the text between <think> and </think>; 0 answers at once.
        answer_tokens: Budget for the answer.
        multiline: False ends the answer at its first line break.
        logprobs: Report every sampled token with its log-probability in `Completion.tokens`.
        tokenized: `turns` as tokens, where the prompt was measured with the backend's own tokenizer: a backend that
            made it need not tokenize again, and all others ignore it.
    """

    turns: tuple[Turn, ...]
    sampling: Sampling = Sampling()
    reasoning_tokens: int = 64
    answer_tokens: int = 64
    multiline: bool = False
    logprobs: bool = False
    tokenized: TokenizedPrompt | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Usage:
    """Token counts and seconds of one generation. `cached_tokens` are prompt tokens that were not evaluated again."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    answer_tokens: int = 0
    load_s: float = 0.0
    retrieve_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    total_s: float = 0.0


@dataclass(frozen=True)
class SampledToken:
    """A token that was drawn, with the model's log-probability of it before penalties, temperature and top-k/p."""

    id: int
    logprob: float
    channel: Literal["reasoning", "answer"]


@dataclass(frozen=True)
class Completion:
    """What a backend says at the end of its stream.

    Attributes:
        finish_reason: How the answer ended.
        usage: Tokens and seconds.
        reasoning_truncated: Whether the reasoning ran into its budget.
        tokens: All tokens that were drawn; only where the request asked for log-probabilities.
        n_kept: How many of the reasoning's tokens were kept; tokens drawn after them are dropped, and the tags follow.
    """

    finish_reason: FinishReason
    usage: Usage
    reasoning_truncated: bool = False
    tokens: tuple[SampledToken, ...] = ()
    n_kept: int = 0


@dataclass(frozen=True)
class ModelInfo:
    """Which model answered.

    Attributes:
        name: For people.
        sha256: Of the weights; "" for a server's model.
        n_ctx_max: Tokens of prompt and answer at most; 0: unknown.
        reasons: Whether it was trained to reason over past writing; `reasoning="auto"` makes only such models reason.
        adapter: Name of the LoRA adapter that is applied or merged in; "" for none.
        tasks: Names of the tasks that it was trained for; empty where its card names none.
        n_parameters: How many weights it has; 0: unknown.
    """

    name: str
    sha256: str = ""
    n_ctx_max: int = 0
    reasons: bool = False
    adapter: str = ""
    tasks: tuple[str, ...] = ()
    n_parameters: int = 0


@dataclass(frozen=True)
class Candidate:
    """One of several answers to a request.

    Attributes:
        answer: The answer.
        reasoning: What led to it.
        seed: The seed it was drawn with.
        logprob: Mean log-probability of the answer's tokens; None where the backend gives none.
        finish_reason: As in `Completion`.
        reasoning_truncated: As in `Completion`.
        score: The scorer's score; higher is better, comparable among these candidates only. None for an empty
            answer, which is not scored.
        why: What speaks for and against it, in clauses for people.
    """

    answer: str
    reasoning: str = ""
    seed: int = 0
    logprob: float | None = None
    finish_reason: FinishReason = "stop"
    reasoning_truncated: bool = False
    score: float | None = None
    why: tuple[str, ...] = ()


@dataclass(frozen=True)
class Draft:
    """A request and the answers that its user was shown: what `Writer.accept` makes an item of their profile of.

    Attributes:
        id: Random.
        task: The task's name.
        request: What was asked for, as it was understood: a topic, a text, or the text of a change.
        shape: What `request` is.
        writes: The field of an item that such an answer is.
        multiline: Whether such an answer may have several lines.
        kind: The kind of the past items shown, which is the new item's too.
        answers: The answers, best first; at least one.
        used: Ids of the past items shown, in prompt order.
        model: Name of the model, and of its adapter if it has one.
        final: What the user made of an answer already, as with `generate --pick`; "" where that is not known.
    """

    id: str
    task: str
    request: str
    shape: Shape
    writes: Literal["title", "text"]
    multiline: bool
    answers: tuple[str, ...]
    kind: str = ""
    used: tuple[str, ...] = ()
    model: str = ""
    final: str = ""


@dataclass(frozen=True)
class Result:
    """One finished answer and how it was made.

    Where several answers were drawn, `candidates` has them, best first: all of them or, with the setting `n`, the
    different ones to choose from. `select` names the scorer. `draft` is what `Writer.accept` takes; None where there is
    no whole answer.
    """

    answer: str
    reasoning: str = ""
    used: tuple[Hit, ...] = ()
    dropped: tuple[Drop, ...] = ()
    finish_reason: FinishReason = "stop"
    reasoning_truncated: bool = False
    usage: Usage = Usage()
    model: ModelInfo = ModelInfo("")
    task: str = ""
    retriever: str = ""
    layout: str = ""
    notes: tuple[str, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    select: str = ""
    draft: Draft | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Event:
    """One step of a stream.

    Attributes:
        type: "loading", "retrieved", "prompt", "prefill", "candidate", "reasoning", "answer" or "done".
        text: The new text of a "reasoning" or "answer" event; the whole answer of a "candidate" event.
        done: Tokens (items) done, of a "prefill" or "loading" event; answers finished, of a "candidate" event, the
            first of which says 0.
        total: Tokens, items or answers in all.
        prompt: The rendered prompt, of a "prompt" event.
        hits: The retrieved items, of a "retrieved" event.
        completion: Of a backend's "done" event.
        result: Of a Writer's "done" event.
    """

    type: Literal["loading", "retrieved", "prompt", "prefill", "candidate", "reasoning", "answer", "done"]
    text: str = ""
    done: int = 0
    total: int = 0
    prompt: Prompt | None = None
    hits: tuple[Hit, ...] = ()
    completion: Completion | None = None
    result: Result | None = None


class Cancel:
    """A flag that stops a stream; any thread, or a signal handler, may set it.

    Attributes:
        cancelled: Whether `cancel()` was called.
    """

    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        """Ask the running stream to stop; it ends with `finish_reason="cancelled"`."""
        self.cancelled = True


class Retriever(Protocol):
    """Ranks a profile's items for a query. `notes` are sentences for the user, such as how to make it faster."""

    name: str
    notes: tuple[str, ...]

    def search(self, query: str, k: int) -> list[Hit]:
        """The best `k` items (fewer where the profile is smaller), best first."""
        ...


class TokenCounter(Protocol):
    """What the renderer needs of a tokenizer."""

    def count(self, text: str) -> int:
        """Tokens of an untrusted text."""
        ...

    def truncate(self, text: str, n_tokens: int) -> str:
        """The longest prefix of `text` that is at most `n_tokens` tokens, never cutting a character."""
        ...

    def count_turns(self, turns: Sequence[Turn]) -> int:
        """Tokens of the whole prompt, chat template included, opening tag excluded."""
        ...

    def encode_turns(self, turns: Sequence[Turn], *, reasons: bool) -> TokenizedPrompt | None:
        """The whole prompt as tokens, with the tag that opens reasoning or answer; None where there are no ids."""
        ...


class Backend(TokenCounter, Protocol):
    """A language model.

    Attributes:
        info: Which model.
        reports_logprobs: Whether it fills `Completion.tokens` when asked.
        notes: Sentences for the user about the last request.
    """

    info: ModelInfo
    reports_logprobs: bool

    @property
    def notes(self) -> tuple[str, ...]:
        """See above."""
        ...

    def stream(self, request: Request, cancel: Cancel | None = None) -> Iterator[Event]:
        """Yield "prefill", "reasoning" and "answer" events, then one "done" event with a Completion."""
        ...

    def stream_many(self, requests: Sequence[Request], cancel: Cancel | None = None) -> Iterator[tuple[int, Event]]:
        """The events of `stream` for each of `requests`, interleaved, with the request's place in the sequence.

        Every request ends with its "done" event, cancelled or not. A backend that can decodes several at a time and
        evaluates what their prompts share once: best-of-n is n requests that differ in their seeds alone.
        """
        ...

    def close(self) -> None:
        """Free the model. Idempotent."""
        ...


@dataclass(frozen=True)
class Scoring:
    """What a scorer may know besides the candidates.

    Attributes:
        query: What was asked for.
        task: The task's name.
        style: The user's steady habits, from all texts that the task learns from.
        used: The past items that the prompt showed, in prompt order.
        past: What the user wrote for each of `used`.
        shape: What the request is made of.
    """

    query: str
    task: str
    style: Style
    used: tuple[Hit, ...] = ()
    past: tuple[str, ...] = ()
    shape: Shape = "text"


class Scorer(Protocol):
    """Chooses among the answers of best-of-n. `needs_logprobs` says that it needs candidates with `logprob`."""

    name: str
    needs_logprobs: bool

    def score(self, candidates: Sequence[Candidate], context: Scoring) -> Sequence[float]:
        """A finite number for each candidate, higher is better. Answers are not empty; there is at least one."""
        ...
