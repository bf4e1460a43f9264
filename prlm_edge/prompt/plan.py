"""A request made ready (`Plan`): what was retrieved for it, its prompt and its token budgets."""

from __future__ import annotations

from dataclasses import dataclass, replace

from prlm_edge.errors import UsageError
from prlm_edge.settings import Settings
from prlm_edge.tasks import Task
from prlm_edge.types import Hit, Prompt, Request, Sampling, Scoring

OTHER_TEMPERATURE = 0.8  # of all candidates but the first where the temperature is 0: they would all be equal
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
        """What the backend is asked: `best_of` requests that differ in how tokens are chosen alone.

        The first is the one that would be asked alone, so that its answer is among the candidates. The others have the
        seeds that follow, and `OTHER_TEMPERATURE` where the temperature is 0.
        """
        s, multiline = self.settings, self.task.multiline
        first = Sampling(s.temperature, s.top_k, s.top_p, s.min_p, s.repeat_penalty, s.seed)
        others = replace(first, temperature=s.temperature or OTHER_TEMPERATURE)
        drawn = [first, *(replace(others, seed=(s.seed + i) % _SEEDS) for i in range(1, s.best_of))]
        budgets, prompt = (self.reasoning_tokens, self.answer_tokens), self.prompt
        return tuple(
            Request(prompt.turns, each, *budgets, multiline, logprobs=s.best_of > 1, tokenized=prompt.tokenized)
            for each in drawn
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
