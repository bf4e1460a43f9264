"""Does an export still say what the trained model said? Checks that block publishing, each with its figures.

A file can load and answer and still be wrong: another tokenizer, another chat template, weights rounded or merged into
the wrong base, an end of turn that is not known. So an export is compared with the trained model in PyTorch on real
prompts:

1. the same token ids for the same texts;  2. the same ids for whole prompts, which the embedded template makes;
3. distributions: KL divergence, top token, perplexity;  4. answers end by themselves;
5. what it writes greedily, the trained model likes best too (ties allowed for).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from prlm_edge.export.measure import TIE_NATS, Agreement, Probe, compare, hf_logprobs
from prlm_edge.export.source import MIN_STOPPED
from prlm_edge.train.data.tokens import Tokens
from prlm_edge.train.grpo.rollout import rollout_of
from prlm_edge.train.types import Ask
from prlm_edge.types import Backend, Request, Sampling
from prlm_edge.writer import Reply

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Bounds:
    """What an export may differ by.

    Attributes:
        kl: Mean KL(trained || export), nats, at most.
        top1: Share of positions with the same top token (ties of `TIE_NATS` allowed for), at least.
        perplexity: Its perplexity over the trained model's, at most.
    """

    kl: float
    top1: float
    perplexity: float


#: By format. A 16-bit merge done in bfloat16 (KL .0017) fails "f16"; the coarser the format, the more it is allowed.
BOUNDS = {
    "f32": Bounds(0.0003, 0.995, 1.003),
    "f16": Bounds(0.0008, 0.99, 1.005),
    "q8_0": Bounds(0.02, 0.95, 1.02),
    "int8": Bounds(0.05, 0.92, 1.04),
    "q5_k_m": Bounds(0.08, 0.88, 1.07),
    "q4_k_m": Bounds(0.15, 0.84, 1.12),
    "q4_0": Bounds(0.35, 0.78, 1.25),
    "int4": Bounds(0.35, 0.78, 1.25),
}


@dataclass(frozen=True)
class Finding:
    """One check: what was found, for people and as figures."""

    name: str
    ok: bool
    said: str
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Verification:
    """All checks of one export."""

    what: str
    checks: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether it may be published."""
        return all(check.ok for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"what": self.what, "ok": self.ok, "checks": [asdict(check) for check in self.checks]}


class Export(Backend, Protocol):
    """A backend over an export that also reports its token ids."""

    def tokenize(self, text: str) -> list[int]:
        """Token ids of an untrusted text."""
        ...

    def prompt_ids(self, request: Request) -> list[int]:
        """Token ids of a request's whole prompt, the opening tag of its first phase included."""
        ...


class Reference:
    """The trained model, and the prompts and texts that exports are compared with it on.

    Args:
        model: The trained model in PyTorch, float32: its base as trained, under its adapter.
        tokens: Its tokenizer.
        prompts: Real requests.
        texts: Real texts, to tokenize.
        probes: Where distributions are compared.
    """

    def __init__(
        self, model: Any, tokens: Tokens, prompts: Sequence[Ask], texts: Sequence[str], probes: Sequence[Probe]
    ) -> None:
        self.model, self.tokens = model, tokens
        self.prompts, self.texts, self.probes = tuple(prompts), tuple(texts), tuple(probes)
        self._said: list[NDArray[np.float32]] | None = None

    @property
    def said(self) -> list[NDArray[np.float32]]:
        """Its log-probabilities at `probes`, computed once."""
        if self._said is None:
            self._said = list(hf_logprobs(self.model, self.probes))
        return self._said


def verify(
    what: str,
    backend: Export,
    said: Iterable[NDArray[np.float32]],
    reference: Reference,
    bounds: Bounds,
    *,
    n_answers: int = 24,
    min_stopped: float = MIN_STOPPED,
) -> Verification:
    """Compare an export with the trained model.

    Args:
        what: Its name, for people.
        backend: It, loaded as users load it.
        said: Its log-probabilities at the reference's probes (`measure.gguf_logprobs` and the like).
        reference: The trained model.
        bounds: Of its format.
        n_answers: Prompts that are answered.
        min_stopped: Share of answers that must end by themselves.
    """
    tokens = check_tokens(reference, backend)
    prompts = check_prompts(reference, backend)
    checks = [tokens, prompts]
    if tokens.ok and prompts.ok:  # else what follows compares different things
        checks.append(check_distributions(compare(reference.probes, reference.said, said), bounds))
        asked = reference.prompts[:n_answers]
        replies = greedy_replies(backend, asked)
        checks.append(check_endings(replies, min_stopped))
        checks.append(check_greedy(reference, asked, replies, bounds))
    return Verification(what, tuple(checks))


def check_tokens(reference: Reference, backend: Export) -> Finding:
    """The same ids for every text."""
    wrong = [text for text in reference.texts if reference.tokens.encode_text(text) != backend.tokenize(text)]
    n = len(reference.texts)
    said = (
        f"{n} texts tokenize alike" if not wrong else f"{len(wrong)} of {n} texts tokenize otherwise: {wrong[0][:60]!r}"
    )
    return Finding("tokens", not wrong, said, {"texts": n, "different": len(wrong)})


def check_prompts(reference: Reference, backend: Export) -> Finding:
    """The same ids for every whole prompt."""
    wrong = [one.id for one in reference.prompts if list(one.ids) != backend.prompt_ids(one.request)]
    n = len(reference.prompts)
    said = (
        f"{n} prompts are the same"
        if not wrong
        else f"{len(wrong)} of {n} prompts differ, such as {wrong[0]}: the chat template"
    )
    return Finding("prompts", not wrong, said, {"prompts": n, "different": len(wrong)})


def check_distributions(found: Agreement, bounds: Bounds) -> Finding:
    """KL, top token and perplexity within bounds."""
    ratio = found.perplexity / found.reference_perplexity
    wrong = [
        text
        for text, bad in (
            (f"KL {found.kl:.5f} > {bounds.kl}", not found.kl <= bounds.kl),
            (f"top token {found.top1_tied:.3f} < {bounds.top1}", not found.top1_tied >= bounds.top1),
            (f"perplexity x {ratio:.3f} > {bounds.perplexity}", not ratio <= bounds.perplexity),
        )
        if bad
    ]
    fine = (
        f"KL {found.kl:.5f}, top token {found.top1:.3f}, perplexity {found.perplexity:.2f} ({ratio:.3f} of the trained)"
    )
    figures = {**asdict(found), "perplexity_ratio": ratio}
    return Finding("distributions", not wrong, "; ".join(wrong) or fine, figures)


def check_endings(replies: Sequence[Reply], min_stopped: float = MIN_STOPPED) -> Finding:
    """Answers end by themselves."""
    share = sum(one.completion.finish_reason == "stop" for one in replies) / max(len(replies), 1)
    said = f"{share:.2f} of {len(replies)} answers end by themselves"
    return Finding("endings", share >= min_stopped, said, {"answers": len(replies), "stopped": share})


def check_greedy(reference: Reference, prompts: Sequence[Ask], replies: Sequence[Reply], bounds: Bounds) -> Finding:
    """Each greedy token is the trained model's own choice after the same words, or a tie with it."""
    import numpy as np

    agreed: list[bool] = []
    for prompt, reply in zip(prompts, replies, strict=True):
        one = rollout_of(prompt, reply, reference.tokens)
        n = len(prompt.ids)
        probe = Probe((*prompt.ids, *one.ids), tuple(range(n - 1, n - 1 + len(one.ids))))
        (said,) = hf_logprobs(reference.model, [probe])
        missed = said.max(-1) - said[np.arange(len(one.ids)), list(one.ids)]
        agreed += (missed <= TIE_NATS)[np.array(one.drawn)].tolist()
    share = sum(agreed) / max(len(agreed), 1)
    said_ = f"{share:.3f} of {len(agreed)} greedy tokens are the trained model's choice"
    return Finding("greedy", share >= bounds.top1, said_, {"tokens": len(agreed), "agreed": share})


def greedy_replies(backend: Backend, prompts: Sequence[Ask]) -> list[Reply]:
    """Greedy answers without penalties."""
    plain = Sampling(temperature=0.0, repeat_penalty=1.0)
    requests = [replace(one.request, sampling=plain, logprobs=True) for one in prompts]
    replies = [Reply(request) for request in requests]
    for place, event in backend.stream_many(requests):
        replies[place].take(event)
    return replies
