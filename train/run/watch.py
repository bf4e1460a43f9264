"""Feeds a run's log from what a Trainer logs, with pace, time left and memory."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from transformers import TrainerCallback

from prlm_edge import cpu
from prlm_edge.train.run.log import Record, RunLog
from prlm_edge.train.types import Rollout, Values

_ETA_STEPS = 20  # logged steps that the pace is taken over
_MAX_SAMPLE_CHARS = 2_000
#: Our names of the figures that TRL and Transformers log; of several, the first that is there.
_NAMES = {
    "loss": ("loss",),
    "grad_norm": ("grad_norm",),
    "lr": ("learning_rate",),
    "reward": ("reward",),
    "reward_std": ("reward_std",),
    "kl": ("kl",),
    "entropy": ("entropy",),
    "zero_variance": ("zero_variance", "frac_reward_zero_std"),
    "truncated": ("truncated", "completions/clipped_ratio"),
    "clipped": ("clip_ratio/region_mean",),
    "non_finite": ("non_finite",),
    "tokens": ("num_tokens", "num_input_tokens_seen"),
}
_LENGTHS = {
    "mean": "completions/mean_length",
    "min": "completions/min_length",
    "max": "completions/max_length",
    "reasoning": "reasoning_tokens",
    "answer": "answer_tokens",
}
_TIMES = ("epoch", "step_time")
_NO_FIGURES = ("runtime", "samples_per_second", "steps_per_second", "num_tokens")  # of a dev log


class RunLogCallback(TrainerCallback):
    """Feeds a `RunLog` from what a Trainer logs; a log of `eval_` figures becomes a dev record.

    Args:
        log: The log.
        shown: Called with each step's record and the number of steps (0: unknown).
        sample_every: Logged steps between samples; 0: none.
        n_samples: Samples at a time, of as many prompts.
        clock: Seconds.
    """

    def __init__(
        self,
        log: RunLog,
        shown: Callable[[Record, int], None] = lambda record, n_steps: None,
        *,
        sample_every: int = 10,
        n_samples: int = 4,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log, self._shown, self._clock = log, shown, clock
        self._sample_every, self._n_samples = sample_every, n_samples
        self._batch: list[dict[str, Any]] = []
        self._offset = 0.0
        self._pace: deque[tuple[int, float, float]] = deque(maxlen=_ETA_STEPS + 1)  # (step, seconds, tokens)

    def see(self, rollouts: Sequence[Rollout], terms: Mapping[str, Values]) -> None:
        """Keep the first rollout of each of the first asks of a batch, with what it earned, for the next sample."""
        firsts: dict[str, int] = {}
        for place, one in enumerate(rollouts):
            if len(firsts) < self._n_samples:
                firsts.setdefault(one.ask.id, place)
        self._batch = [
            sample(rollouts[place], {name: float(values[place]) for name, values in terms.items()})
            for place in firsts.values()
        ]

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Forget what came after the step that the run goes on from."""
        self._log.writes = self._log.writes and bool(state.is_world_process_zero)
        self._log.rewind(state.global_step)
        steps = [one for one in self._log.records if one["kind"] == "step"]
        self._offset = float(steps[-1].get("wall_s", 0.0)) if steps else 0.0
        self._offset -= self._clock()
        tokens = float(steps[-1].get("tokens", 0.0)) if steps else 0.0
        self._pace.append((state.global_step, self._offset + self._clock(), tokens))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Append a record."""
        logs = dict(logs or {})
        if "loss" in logs:
            self._step(state, logs)
        elif dev := _dev_figures(logs):
            self._log.dev(state.global_step, dev)

    def _step(self, state: Any, logs: dict[str, Any]) -> None:
        record = {"kind": "step", "step": state.global_step, **figures_of(logs)}
        record |= self._timing(state.global_step, state.max_steps, float(record.get("tokens") or 0.0))
        self._log.add(record)
        n = sum(one["kind"] == "step" for one in self._log.records)
        if self._sample_every and n % self._sample_every == 0:
            self._log.samples(state.global_step, self._batch)
        if state.is_world_process_zero:
            self._shown(record, state.max_steps)

    def _timing(self, step: int, n_steps: int, tokens: float) -> dict[str, float]:
        wall = self._offset + self._clock()
        self._pace.append((step, wall, tokens))
        (step_0, wall_0, _), (step_1, wall_1, tokens_1) = self._pace[0], self._pace[-2]
        found = {"wall_s": wall, "step_s": (wall - wall_1) / max(1, step - step_1)}
        if tokens > tokens_1 and wall > wall_1:
            found["tokens_per_s"] = (tokens - tokens_1) / (wall - wall_1)
        if n_steps > 0:
            found["eta_s"] = max(0, n_steps - step) * (wall - wall_0) / max(1, step - step_0)
        return {key: round(value, 3) for key, value in (found | memory_mb()).items()}


def figures_of(logs: Mapping[str, Any]) -> dict[str, Any]:
    """TRL's and Transformers' figures by our names, others under "other"; None (TRL: NaN throughout) becomes NaN."""
    rest = {name: math.nan if value is None else float(value) for name, value in logs.items()}
    found: dict[str, Any] = {}
    for ours, theirs in _NAMES.items():
        values = [rest.pop(name) for name in theirs if name in rest]
        if values:
            found[ours] = values[0]
    lengths = {ours: rest.pop(theirs) for ours, theirs in _LENGTHS.items() if theirs in rest}
    means, stds = (
        {name.split("/")[1]: rest.pop(name) for name in list(rest) if _is_term(name, kind)} for kind in ("mean", "std")
    )
    other = {name: value for name, value in rest.items() if name not in _TIMES}
    groups = {"terms": means, "terms_std": stds, "lengths": lengths, "other": other}
    return found | {name: values for name, values in groups.items() if values}


def sample(one: Rollout, terms: Mapping[str, float]) -> dict[str, Any]:
    """A line of samples.jsonl."""
    return {
        "prompt_id": one.ask.id,
        "query": one.ask.scoring.query[:_MAX_SAMPLE_CHARS],
        "target": one.ask.target,
        "reasoning": one.said.reasoning,
        "answer": one.said.answer,
        "finish_reason": one.said.finish_reason,
        "terms": dict(terms),
    }


def memory_mb() -> dict[str, float]:
    """Peak memory so far, in MB of 10^6 bytes: of this process, and on the GPU where one is used."""
    found = {}
    if (peak := cpu.peak_memory()) is not None:
        found["memory_mb"] = peak / 1e6
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        found["gpu_mb"] = torch.cuda.max_memory_allocated() / 1e6
    return found


def _is_term(name: str, kind: str) -> bool:
    parts = name.split("/")
    return len(parts) == 3 and parts[0] == "rewards" and parts[2] == kind


def _dev_figures(logs: Mapping[str, Any]) -> dict[str, float]:
    figures = {name.removeprefix("eval_"): value for name, value in logs.items() if name.startswith("eval_")}
    return {name: float(v) for name, v in figures.items() if v is not None and name not in _NO_FIGURES}
