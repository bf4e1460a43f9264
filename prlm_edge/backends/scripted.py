"""A backend that replays given replies: for the tests of apps that embed a Writer, and for our own. No model.

Its tokens are words, so budgets and truncation behave as with a real model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from prlm_edge.backends.one_by_one import one_by_one
from prlm_edge.prompt import THINK_CLOSE, Splitter
from prlm_edge.types import Cancel, Completion, Event, ModelInfo, Request, SampledToken, Turn, Usage


class Scripted:
    """Replays `replies` in order, the last one for ever.

    Args:
        replies: Whole replies such as "<think>why</think><answer>what</answer>".
        n_ctx: Context size in words.
        logprobs: For each reply the log-probability that every word of its answer is said to have; None reports none.

    Attributes:
        requests: The requests received.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, replies: Iterable[str], n_ctx: int = 8192, logprobs: Sequence[float] | None = None) -> None:
        self._replies = list(replies)
        self._logprobs = logprobs
        self.reports_logprobs = logprobs is not None
        self.info = ModelInfo("scripted", "", n_ctx, reasons=True)
        self.requests: list[Request] = []

    def count(self, text: str) -> int:
        """Words of `text`."""
        return len(text.split())

    def truncate(self, text: str, n_tokens: int) -> str:
        """The first `n_tokens` words."""
        words = text.split(None, max(n_tokens, 0))
        return text if len(words) <= n_tokens else text[: len(text) - len(words[-1])].rstrip()

    def count_turns(self, turns: Sequence[Turn]) -> int:
        """Words of all turns, and one for each turn."""
        return sum(self.count(turn.text) + 1 for turn in turns)

    def encode_turns(self, turns: Sequence[Turn], *, reasons: bool) -> None:
        """None: words have no ids."""

    def stream(self, request: Request, cancel: Cancel | None = None) -> Iterator[Event]:
        """Replay the next reply, word by word."""
        self.requests.append(request)
        place = min(len(self.requests), len(self._replies)) - 1
        reply = self._replies[place]
        n_prompt = self.count_turns(request.turns)
        yield Event("prefill", done=n_prompt, total=n_prompt)
        splitter = Splitter()
        for word in reply.split(" "):
            if cancel and cancel.cancelled:
                yield Event("done", completion=Completion("cancelled", Usage(prompt_tokens=n_prompt)))
                return
            yield from (Event(channel, text=text) for channel, text in splitter.feed(word + " "))
        yield from (Event(channel, text=text) for channel, text in splitter.finish())
        tokens = self._tokens(reply, place) if request.logprobs else ()
        yield Event("done", completion=Completion("stop", Usage(prompt_tokens=n_prompt), tokens=tokens))

    def stream_many(self, requests: Sequence[Request], cancel: Cancel | None = None) -> Iterator[tuple[int, Event]]:
        """See `Backend.stream_many`; one after the other."""
        return one_by_one(self, requests, cancel)

    def _tokens(self, reply: str, place: int) -> tuple[SampledToken, ...]:
        if self._logprobs is None:
            return ()
        reasoning, _, answer = reply.rpartition(THINK_CLOSE)
        token = SampledToken(0, self._logprobs[place], "answer")
        aside = SampledToken(0, -1.0, "reasoning")
        return (aside,) * self.count(reasoning) + (token,) * self.count(answer)

    def close(self) -> None:
        """Nothing to free."""
