"""A backend for any OpenAI-compatible chat server: vLLM, llama-server, llama-cpp-python's server, ...

The prompt, profile items included, is sent to that server and nowhere else. Unlike a local model, a server isn't held
to the format (the examples show it), spends one budget on reasoning and answer, and its tokens are estimated. Text
that looks like a control token is spaced out, since the server would parse it.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from prlm_edge.backends.one_by_one import one_by_one
from prlm_edge.backends.server.sse import Client
from prlm_edge.errors import BackendError
from prlm_edge.prompt import ANSWER_CLOSE, Splitter
from prlm_edge.types import Cancel, Completion, Event, FinishReason, ModelInfo, Request, Sampling, Span, Turn, Usage

_TAG_TOKENS = 24  # the tags around reasoning and answer
_TURN_TOKENS = 8  # what a chat template writes around a turn
_DEFAULT_CONTEXT = 4096
_BYTES_PER_TOKEN = 3  # an estimate on the safe side: English runs at 4 to 5
_CONTROL_LIKE = re.compile(
    r"<(?=[|｜][^<>\s]{1,60}[|｜]>|/?s>|/?(?:bos|eos|pad|unk)>|(?:start|end)_of_turn>|<SYS>>|</SYS>>)|\[(?=/?INST\])"
)


@dataclass
class _Reply:
    """What is known of a reply so far."""

    multiline: bool
    splitter: Splitter = field(default_factory=Splitter)
    finish: FinishReason = "length"
    usage: dict[str, Any] = field(default_factory=dict)
    first_s: float = 0.0
    reasoning: str = ""
    answer: str = ""

    def take(self, parts: Sequence[tuple[str, str]]) -> list[Event]:
        """Add (channel, text) pairs; gives what of them is shown."""
        events = []
        for channel, text in parts:
            if channel == "reasoning":
                self.reasoning += text
                events.append(Event("reasoning", text=text))
                continue
            before = _shown(self.answer, multiline=self.multiline)
            self.answer += text
            if new := _shown(self.answer, multiline=self.multiline)[len(before) :]:
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
        reply = _Reply(request.multiline)
        yield from self._events(request, request.turns, reply, cancel)
        truncated = not reply.splitter.answered and not cancel.cancelled
        if truncated:  # it reasoned its budget away
            again = (Turn("assistant", (Span(reply.reasoning),)), Turn("user", (Span("Now write the answer alone."),)))
            usage, reply.splitter = reply.usage, Splitter()
            yield from self._events(request, (*request.turns, *again), reply, cancel)
            keys = ("prompt_tokens", "completion_tokens")
            reply.usage = {key: usage.get(key, 0) + reply.usage.get(key, 0) for key in keys}
        total = time.perf_counter() - started
        yield Event("done", completion=self._completion(reply, total, truncated, cancelled=cancel.cancelled))

    def stream_many(self, requests: Sequence[Request], cancel: Cancel | None = None) -> Iterator[tuple[int, Event]]:
        """See `Backend.stream_many`; one after the other."""
        return one_by_one(self, requests, cancel)

    def _events(self, request: Request, turns: Sequence[Turn], reply: _Reply, cancel: Cancel) -> Iterator[Event]:
        started = time.perf_counter()
        for chunk in self._client.stream("/chat/completions", self._body(request, turns), cancel):
            reply.first_s = reply.first_s or time.perf_counter() - started
            reply.usage = chunk.get("usage") or reply.usage
            for choice in chunk.get("choices") or ():
                delta = choice.get("delta") or {}
                if thought := delta.get("reasoning_content") or delta.get("reasoning"):
                    yield from reply.take([("reasoning", thought)])
                yield from reply.take(reply.splitter.feed(delta.get("content") or ""))
                if choice.get("finish_reason"):
                    reply.finish = "stop" if choice["finish_reason"] == "stop" else "length"
        yield from reply.take(reply.splitter.finish())

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
            prompt_tokens=int(reply.usage.get("prompt_tokens", 0)),
            reasoning_tokens=max(int(reply.usage.get("completion_tokens", 0)) - n_answer, 0),
            answer_tokens=n_answer,
            prefill_s=reply.first_s,
            decode_s=total - reply.first_s,
            total_s=total,
        )
        return Completion("cancelled" if cancelled else reply.finish, usage, truncated)

    def _look_up(self, model: str) -> tuple[str, int]:
        data = self._client.get("/models")
        listed = data.get("data") or () if isinstance(data, dict) else ()
        models = [entry for entry in listed if isinstance(entry, dict)]
        entry = next((m for m in models if m.get("id") == model or not model), None)
        if entry is None:
            names = ", ".join(str(m.get("id")) for m in models[:5]) or "none"
            raise BackendError(f"{self.host} has no model {model!r}", f"choose one with --model; it lists: {names}")
        limit = entry.get("max_model_len") or (entry.get("meta") or {}).get("n_ctx") or 0  # vLLM's and llama-server's
        return str(entry["id"]), int(limit)


def _shown(text: str, *, multiline: bool) -> str:
    """What of an answer is shown: a one-line answer ends at its first line break."""
    text = text.lstrip()
    return text if multiline else text.partition("\n")[0]


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
