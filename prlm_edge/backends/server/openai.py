"""A backend for any OpenAI-compatible chat server: vLLM, llama-server, llama-cpp-python's server, ...

The prompt, profile items included, is sent to that server and nowhere else. Unlike a local model, a server isn't held
to the format (the examples show it), spends one budget on reasoning and answer, and its tokens are estimated. Text
that looks like a control token is spaced out on its way there, since the server would parse it.
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from prlm_edge.backends.one_by_one import one_by_one
from prlm_edge.backends.server.sse import Client, RefusedError
from prlm_edge.errors import BackendError
from prlm_edge.prompt import ANSWER_CLOSE, Splitter
from prlm_edge.types import Cancel, Completion, Event, FinishReason, ModelInfo, Request, Sampling, Span, Turn, Usage

_TAG_TOKENS = 24  # the tags around reasoning and answer
_TURN_TOKENS = 8  # what a chat template writes around a turn
_DEFAULT_CONTEXT = 4096
_BYTES_PER_TOKEN = 3  # an estimate on the safe side: English runs at 4 to 5
_MAX_CHARS_PER_TOKEN = 64
# What some tokenizer parses as a control token: <|im_end|>, <tool_call>, <<SYS>>, [INST], [TOOL_CALLS], [gMASK], ...
_WORD = r"[|｜][^<>\s]{1,60}[|｜]|/?[A-Za-z][\w.:-]{0,60}"
_NAME = r"/?[A-Z][A-Z0-9_]+|[gs]MASK|unused\d+"
_CONTROL_LIKE = re.compile(rf"<(?=(?:{_WORD})>)|\[(?=(?:{_NAME})\])")
_SPACED = re.compile(rf"(<) (?=(?:{_WORD})>)|(\[) (?=(?:{_NAME})\])")
_OPEN = re.compile(r"[<\[](?: [^<>\[\]]{0,64})?$")  # may become a spaced one with the text to come
# Fields that not every server takes, and the other name that some want them under.
_OPTIONAL = ("stream_options", "seed", "top_k", "min_p", "repeat_penalty", "repetition_penalty", "top_p", "stop")
_ENDED_BY_LENGTH = ("length", "max_tokens", "model_length")


@dataclass
class _Reply:
    """What is known of a reply so far."""

    multiline: bool
    spaced: bool  # whether the request held what was spaced out, and the answer may
    splitter: Splitter = field(default_factory=Splitter)
    finish: FinishReason = "length"
    usage: dict[str, Any] = field(default_factory=dict)
    first_s: float = 0.0
    reasoning: str = ""
    answer: str = ""
    shown: str = ""

    def take(self, parts: Sequence[tuple[str, str]], *, last: bool = False) -> list[Event]:
        """Add (channel, text) pairs; gives what of them is shown: with the last ones, all that is still held back."""
        events = []
        for channel, text in parts:
            if channel == "reasoning":
                self.reasoning += text
                events.append(Event("reasoning", text=text))
            else:
                self.answer += text
        held = _OPEN.search(self.answer) if self.spaced and not last else None
        shown = _shown(self.answer[: held.start()] if held else self.answer, multiline=self.multiline)
        shown = _SPACED.sub(lambda match: match[0].rstrip(), shown) if self.spaced else shown
        if new := shown[len(self.shown) :]:
            self.shown = shown
            events.append(Event("answer", text=new))
        return events


class OpenAI:
    """A chat model behind `base_url`.

    Args:
        base_url: Up to and including the version, such as "http://127.0.0.1:8080/v1".
        model: The server's name for the model; "" takes the first one it lists.
        api_key: Bearer token; "" for none.
        n_ctx: Context size in tokens; 0 asks the server, else 4,096.

    Raises:
        UsageError: `base_url` is not an http(s) address.
        BackendError: The server can't be reached or lists no model.
    """

    reports_logprobs = False  # not every server can
    notes: tuple[str, ...] = ()

    def __init__(self, base_url: str, *, model: str = "", api_key: str = "", n_ctx: int = 0) -> None:
        self._client = Client(base_url, api_key)
        self._refused: set[str] = set()  # fields that this server doesn't take
        self.host = self._client.host
        name, limit = self._look_up(model)
        self._model = name
        self.info = ModelInfo(f"{name} at {self.host}", "", n_ctx or limit or _DEFAULT_CONTEXT)

    def close(self) -> None:
        """Nothing to free."""

    def count(self, text: str) -> int:
        """Tokens of `text`, estimated from its bytes."""
        return math.ceil(len(text.encode("utf-8", "replace")) / _BYTES_PER_TOKEN)

    def truncate(self, text: str, n_tokens: int) -> str:
        """The longest prefix of `text` of at most `n_tokens` estimated tokens."""
        data = text[: max(n_tokens, 0) * _BYTES_PER_TOKEN].encode("utf-8", "replace")
        return data[: max(n_tokens, 0) * _BYTES_PER_TOKEN].decode("utf-8", "ignore")

    def count_turns(self, turns: Sequence[Turn]) -> int:
        """Estimated tokens of the whole prompt."""
        return sum(self.count(turn.text) + _TURN_TOKENS for turn in turns)

    def encode_turns(self, turns: Sequence[Turn], *, reasons: bool) -> None:
        """None: the server tokenizes."""

    def stream(self, request: Request, cancel: Cancel | None = None) -> Iterator[Event]:
        """Yield "reasoning" and "answer" events, then "done". Asks once more where the reply held no answer.

        Raises:
            BackendError: The server can't be reached, refuses, or breaks off.
        """
        cancel = cancel or Cancel()
        started = time.perf_counter()
        reply = _Reply(request.multiline, _holds_control_like(request.turns))
        yield from self._events(request, request.turns, reply, cancel)
        truncated = not reply.splitter.answered and not cancel.cancelled
        if truncated:  # it reasoned its budget away
            again = (Turn("assistant", (Span(reply.reasoning),)), Turn("user", (Span("Now write the answer alone."),)))
            usage, reply.splitter = reply.usage, Splitter()
            yield from self._events(request, (*request.turns, *again), reply, cancel)
            keys = ("prompt_tokens", "completion_tokens")
            reply.usage = {key: _count(usage.get(key)) + _count(reply.usage.get(key)) for key in keys}
        total = time.perf_counter() - started
        yield Event("done", completion=self._completion(reply, total, truncated, cancelled=cancel.cancelled))

    def stream_many(self, requests: Sequence[Request], cancel: Cancel | None = None) -> Iterator[tuple[int, Event]]:
        """See `Backend.stream_many`; one after the other."""
        return one_by_one(self, requests, cancel)

    def _events(self, request: Request, turns: Sequence[Turn], reply: _Reply, cancel: Cancel) -> Iterator[Event]:
        started = time.perf_counter()
        limit = _MAX_CHARS_PER_TOKEN * (request.reasoning_tokens + request.answer_tokens + _TAG_TOKENS)
        with contextlib.closing(self._chunks(self._body(request, turns), cancel)) as chunks:
            for chunk in chunks:
                reply.first_s = reply.first_s or time.perf_counter() - started
                reply.usage = _mapping(chunk.get("usage")) or reply.usage
                for thought, text, finish in _parts(chunk):
                    yield from reply.take([("reasoning", thought)] if thought else [])
                    yield from reply.take(reply.splitter.feed(text))
                    if finish:
                        reply.finish = "length" if finish in _ENDED_BY_LENGTH else "stop"
                if not request.multiline and "\n" in reply.answer.lstrip():
                    reply.finish = "stop"
                    break  # the rest of what the server writes is not shown
                if len(reply.reasoning) + len(reply.answer) > limit:
                    break  # it takes no notice of max_tokens
        yield from reply.take(reply.splitter.finish(), last=True)

    def _chunks(self, body: dict[str, Any], cancel: Cancel) -> Generator[dict[str, Any], None, None]:
        """The server's reply; a field that it refuses by name is left out and asked for no more."""
        while True:
            try:
                yield from self._client.stream("/chat/completions", self._without(body), cancel)
                return
            except RefusedError as error:
                field = next((f for f in (*_OPTIONAL, "max_tokens") if f in body and f in error.detail), "")
                if error.status not in (400, 422) or not field or field in self._refused:
                    raise
                self._refused.add(field)

    def _without(self, body: dict[str, Any]) -> dict[str, Any]:
        kept = {key: value for key, value in body.items() if key not in self._refused}
        return kept if "max_tokens" in kept else {**kept, "max_completion_tokens": body["max_tokens"]}

    def _body(self, request: Request, turns: Sequence[Turn]) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": turn.role, "content": _content(turn)} for turn in turns],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": request.reasoning_tokens + request.answer_tokens + _TAG_TOKENS,
            "stop": [ANSWER_CLOSE],
        }
        return body | _sampling(request.sampling)

    def _completion(self, reply: _Reply, total: float, truncated: bool, *, cancelled: bool) -> Completion:
        n_answer = self.count(reply.answer)
        usage = Usage(
            prompt_tokens=_count(reply.usage.get("prompt_tokens")),
            reasoning_tokens=max(_count(reply.usage.get("completion_tokens")) - n_answer, 0),
            answer_tokens=n_answer,
            prefill_s=reply.first_s,
            decode_s=total - reply.first_s,
            total_s=total,
        )
        return Completion("cancelled" if cancelled else reply.finish, usage, truncated)

    def _look_up(self, model: str) -> tuple[str, int]:
        """The model's name and context; a server without a list of models is believed."""
        try:
            listed = self._client.get("/models")
        except RefusedError as error:
            if model and error.status in (404, 405, 501):
                return model, 0
            raise
        listed = listed.get("data") if isinstance(listed, dict) else listed
        models = [m for m in listed if _mapping(m).get("id")] if isinstance(listed, list) else []
        entry = next((m for m in models if m["id"] == model or not model), None)
        if entry is None:
            names = ", ".join(str(m["id"]) for m in models[:5]) or "none"
            raise BackendError(f"{self.host} has no model {model!r}", f"choose one with --model; it lists: {names}")
        limit = entry.get("max_model_len") or _mapping(entry.get("meta")).get("n_ctx")  # vLLM's and llama-server's
        return str(entry["id"]), _count(limit)


def _parts(chunk: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(reasoning, text, finish reason) of each choice of a chunk, or of a whole message."""
    choices = chunk.get("choices") or []
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise BackendError(
            "the server sent what is no chat reply", "base_url should be that of an OpenAI-compatible API"
        )
    for choice in choices:
        delta = _mapping(choice.get("delta")) or _mapping(choice.get("message"))
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        yield _text(thought), _text(delta.get("content")), _text(choice.get("finish_reason"))


def _text(value: Any) -> str:
    """A string, or the text of a list of parts."""
    if isinstance(value, list):
        return "".join(_text(_mapping(part).get("text")) for part in value)
    return value if isinstance(value, str) else ""


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int:
    return value if type(value) is int and 0 <= value < 1 << 40 else 0


def _shown(text: str, *, multiline: bool) -> str:
    """What of an answer is shown: a one-line answer ends at its first line break."""
    text = text.lstrip()
    return text if multiline else text.partition("\n")[0]


def _holds_control_like(turns: Sequence[Turn]) -> bool:
    return any(_CONTROL_LIKE.search(span.text) for turn in turns for span in turn.spans if not span.trusted)


def _content(turn: Turn) -> str:
    return "".join(s.text if s.trusted else _CONTROL_LIKE.sub(lambda m: m[0] + " ", s.text) for s in turn.spans)


def _sampling(sampling: Sampling) -> dict[str, Any]:
    """Standard fields always; llama-server's and vLLM's own only where they differ from our defaults."""
    fields: dict[str, Any] = {"temperature": sampling.temperature, "seed": sampling.seed, "top_p": sampling.top_p}
    usual = Sampling()
    if sampling.temperature > 0 and sampling.top_k != usual.top_k:
        fields["top_k"] = sampling.top_k
    if sampling.temperature > 0 and sampling.min_p != usual.min_p:
        fields["min_p"] = sampling.min_p
    if sampling.repeat_penalty != usual.repeat_penalty:
        fields["repeat_penalty"] = fields["repetition_penalty"] = sampling.repeat_penalty
    return fields
