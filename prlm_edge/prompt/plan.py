"""A request made ready (`Plan`): what was retrieved for it, its prompt and its token budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from prlm_edge.errors import UsageError
from prlm_edge.settings import Settings
from prlm_edge.tasks import Task
from prlm_edge.types import Hit, Prompt, Request, Sampling, Scoring, Shape

OTHER_TEMPERATURE = 0.8  # of all candidates but the first where the temperature is 0: they would all be equal
#: How many past items a prompt shows, and words of each: what gains most within a second of reading, by dev loss.
SHOWN: Mapping[Shape, tuple[int, int]] = {"topic": (5, 30), "text": (3, 20), "change": (5, 8)}
SPARES: Mapping[Shape, int] = {"topic": 3, "text": 0, "change": 3}  # drawn where the answer of one line is none
MORE = 2  # spares besides as many as are to be shown, if those are several
SPARE_WARMTH = 0.4  # by which spares' temperature is above that of the other answers
_FIRST_SPARE = 64  # added to the seed of spares: beyond the seeds of the most answers that are drawn at first
_SEEDS = 2**32
_TAG_TOKENS = 24  # room for the tags that a backend puts around reasoning and answer
_SMALLEST_PROMPT = 64  # tokens; less holds no system prompt and request


@dataclass(frozen=True)
class Plan:
    """A request made ready.

    Attributes:
        task: What kind of text is asked for.
        settings: Those of this request.
        hits: The past items that were retrieved, best first.
        prompt: What the model reads.
        reasoning_tokens: Budget for the reasoning; 0 answers at once.
        answer_tokens: Budget for the answer.
        notes: What the user should know before reading an answer.
        retrieve_s: Seconds that retrieval took.
        scoring: What a scorer of the answers may know, the request's text among it.
    """

    task: Task
    settings: Settings
    hits: tuple[Hit, ...]
    prompt: Prompt
    reasoning_tokens: int
    answer_tokens: int
    notes: tuple[str, ...]
    retrieve_s: float
    scoring: Scoring

    @property
    def request(self) -> Request:
        """What the backend is asked; of best-of-n, the first request."""
        return self.requests[0]

    @property
    def requests(self) -> tuple[Request, ...]:
        """What the backend is asked: `n_drawn` requests that differ in how tokens are chosen alone.

        The first is the one that would be asked alone, so that its answer is among the candidates. The others have the
        seeds that follow, and `OTHER_TEMPERATURE` where the temperature is 0.
        """
        n = self.settings.n_drawn
        return self._drawn([self._sampling, *(self._other(i) for i in range(1, n))], logprobs=n > 1)

    @property
    def spares(self) -> tuple[Request, ...]:
        """What the backend is asked then, once, where the first answers are not enough to show.

        Where several are to be shown as many and `MORE`; else, for one line, as many as `SPARES` says.
        """
        n = self.settings.n + MORE if self.settings.n > 1 else SPARES[self.scoring.shape] * (not self.task.multiline)
        warmer = self._other(0).temperature + SPARE_WARMTH
        return self._drawn(
            [replace(self._other(_FIRST_SPARE + i), temperature=warmer) for i in range(n)], logprobs=True
        )

    @property
    def _sampling(self) -> Sampling:
        s = self.settings
        return Sampling(s.temperature, s.top_k, s.top_p, s.min_p, s.repeat_penalty, s.seed)

    def _other(self, i: int) -> Sampling:
        first = self._sampling
        return replace(first, temperature=first.temperature or OTHER_TEMPERATURE, seed=(first.seed + i) % _SEEDS)

    def _drawn(self, samplings: Sequence[Sampling], *, logprobs: bool) -> tuple[Request, ...]:
        prompt, budgets = self.prompt, (self.reasoning_tokens, self.answer_tokens)
        return tuple(
            Request(prompt.turns, one, *budgets, self.task.multiline, logprobs=logprobs, tokenized=prompt.tokenized)
            for one in samplings
        )


def prompt_budget(n_ctx: int, n_reason: int, n_answer: int) -> int:
    """Tokens that a context of `n_ctx` leaves for the prompt.

    Raises:
        UsageError: Too few for any prompt.
    """
    budget = n_ctx - n_reason - n_answer - _TAG_TOKENS
    if budget < _SMALLEST_PROMPT:
        raise UsageError(
            f"a context of {n_ctx} tokens leaves {max(budget, 0)} for the prompt",
            "lower --reasoning-tokens or --answer-tokens, or raise --n-ctx",
        )
    return budget
