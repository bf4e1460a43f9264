"""Reinforcement learning over reasoning and answers: TRL's GRPOTrainer, our rollouts, named rewards.

How it deviates from the paper (PrLM, arXiv 2508.07342; its code as far as it states settings):

- the reward of personalization comes from a model that sees the profile; the paper's cannot;
- terms are normalized before they are summed (GDPO), where the paper adds a 0..3 and two 0..0.1 terms;
- the format is forced from the first token, and graded; the paper waits for it to appear;
- rollouts are drawn at temperature 1 (the paper: 0.7), and the ratio is taken against the log-probabilities of the
  engine that drew: llama.cpp on a CPU, else the policy itself (`grpo.rollouts`);
- a LoRA adapter over a frozen base, from a warm start; the paper trains all weights of DeepSeek-R1-Distill-Qwen-1.5B;
- no reference model by default (beta 0); DAPO's loss and clipping instead of GRPO's.

`recipes/paper.yaml` takes back what can be. Stopped or killed, the same command goes on from the last whole checkpoint.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback, set_seed
from trl import GRPOConfig

from prlm_edge.errors import PrlmError, UsageError
from prlm_edge.rerank.overlap import Counted, rouge_1, rouge_l
from prlm_edge.train import base
from prlm_edge.train.config import Recipe
from prlm_edge.train.data.tokens import Tokens
from prlm_edge.train.grpo.open_engine import open_engine
from prlm_edge.train.grpo.policy_trainer import PolicyTrainer
from prlm_edge.train.grpo.rollout import Drawer
from prlm_edge.train.grpo.terms import make_terms
from prlm_edge.train.grpo.to_trl import Exchange
from prlm_edge.train.run import processes
from prlm_edge.train.run.folder import TrainFolder
from prlm_edge.train.run.log import Record, RunLog
from prlm_edge.train.run.stop_callback import StopForCause
from prlm_edge.train.run.stopping import Verdict
from prlm_edge.train.run.trainer import Checkpoints, run_trainer, shared_arguments
from prlm_edge.train.run.watch import RunLogCallback
from prlm_edge.train.types import Ask, Progress, Rollout
from prlm_edge.types import Cancel, Sampling, Scorer

_TAG_TOKENS = 24  # of a completion, besides reasoning and answer


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `whole` if it came to its last step, else stopped on request or for the verdict's cause."""

    whole: bool
    verdict: Verdict


class _Dev(TrainerCallback):
    """Scores dev users' answers, written as a user would get them, before the first step and every few."""

    def __init__(self, engine: Drawer, asks: Sequence[Ask], recipe: Recipe, log: RunLog, cancel: Cancel) -> None:
        self._engine, self._asks, self._recipe, self._log, self._cancel = engine, asks, recipe, log, cancel
        self.trainer: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The start is a point too."""
        if state.global_step == 0:
            self._look(0)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Every `eval_steps`, and after the last step."""
        if state.global_step % self._recipe.grpo.eval_steps == 0 or state.global_step >= state.max_steps:
            self._look(state.global_step)

    def _look(self, step: int) -> None:
        if not self._asks or any(processes.gathered([self._cancel.cancelled])):
            return
        self._engine.load(self.trainer.accelerator.unwrap_model(self.trainer.model))
        mine = self._asks[processes.rank() :: processes.count()]
        sampling = Sampling(repeat_penalty=self._recipe.grpo.dev_penalty)
        found = processes.gathered([_figures(one) for one in self._engine.best(mine, sampling, self._cancel)])
        # trainer.log would count as the step's own log, which would then be missing
        self._log.dev(step, {name: sum(one[name] for one in found) / len(found) for name in found[0]})


def _figures(one: Rollout) -> dict[str, float]:
    """What a dev answer scores."""
    ours, theirs = Counted(one.said.answer), Counted(one.ask.target)
    return {
        "rouge1": rouge_1(ours, theirs),
        "rougeL": rouge_l(ours, theirs),
        "style": one.ask.scoring.style.match(one.said.answer),
        "truncated": float(one.cut),
    }


def train(
    folder: TrainFolder,
    recipe: Recipe,
    asks: Sequence[Ask],
    dev: Sequence[Ask],
    *,
    start: Path | None = None,
    scorer: Scorer | None = None,
    cancel: Cancel | None = None,
    until: float = math.inf,
    progress: Progress = lambda done, total: None,
    shown: Callable[[Record, int], None] = lambda record, n_steps: None,
) -> Outcome:
    """Train, or go on training.

    Args:
        folder: The run.
        recipe: Resolved.
        asks: To draw answers for.
        dev: Of other users, to choose the adapter by; may be empty.
        start: The warm start's adapter; None begins with a fresh one.
        scorer: The reward model, for the term "personalization".
        cancel: Ends after the current step, with a checkpoint.
        until: Ends likewise before the step that would not be done at this `time.monotonic()`.
        progress: Called with (steps done, steps).
        shown: Called with each step's record and the number of steps.

    Raises:
        ConfigError: Settings that don't go together; llama.cpp is to draw, and has no GGUF file to do it with.
        UsageError: `start` is of another model, or the processes can't share a step's completions.
        PrlmError: The disk or the GPU's memory is full, or an engine failed; checkpoints stay.
    """
    cancel = cancel or Cancel()
    set_seed(recipe.seed)
    source = base.resolve(recipe.base.model)
    tokens = base.load_tokens(source, recipe.data.max_tokens)
    engine = open_engine(recipe, source, folder.path / f"engine{processes.rank() or ''}", tokens)
    try:
        log = RunLog(folder.path, writes=processes.first())
        watch, stop = RunLogCallback(log, shown), StopForCause(log)
        look = _Dev(engine, dev, recipe, log, cancel)
        look.trainer = _trainer(folder, recipe, source, tokens, engine, asks, start, scorer, watch)
        callbacks = (watch, look, Checkpoints(folder, cancel, progress, until=until), stop)
        whole = run_trainer(look.trainer, folder, callbacks, knob="grpo.micro_batch", value=recipe.grpo.micro_batch)
        best = stop.best or folder.latest()
        if (whole or stop.verdict.stop) and best is not None and processes.first():
            folder.keep_adapter(best)
        processes.wait()
        return Outcome(whole, stop.verdict)
    finally:
        engine.close()


def _trainer(
    folder: TrainFolder,
    recipe: Recipe,
    source: Path,
    tokens: Tokens,
    engine: Drawer,
    asks: Sequence[Ask],
    start: Path | None,
    scorer: Scorer | None,
    watch: RunLogCallback,
) -> PolicyTrainer:
    g, by_id = recipe.grpo, {ask.id: ask for ask in asks}
    if len(by_id) < g.prompts:
        raise PrlmError(
            f"{len(by_id)} prompts, and a step draws from {g.prompts}", "--set grpo.prompts=1, or more data"
        )
    budget = max(ask.request.reasoning_tokens for ask in asks)
    terms = make_terms(g.rewards, scorer=scorer, reasoning_budget=budget)
    exchange = Exchange(engine, by_id, terms, g.rewards, g.group_size, watch.see)
    policy = base.load_policy(source, recipe, start)
    longest = max(ask.request.answer_tokens + ask.request.reasoning_tokens + _TAG_TOKENS for ask in asks)
    # TRL rounds an adapter over NF4 to bfloat16, in which a step of 1e-5 is lost in a weight of 1e-2
    exact = [(weight, weight.data) for weight in policy.parameters() if weight.requires_grad]
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    trainer = PolicyTrainer(
        model=policy,
        args=_arguments(folder, recipe, [g.rewards[name] for name in terms], longest),
        reward_funcs=exchange.rewards,
        train_dataset=Dataset.from_list([{"prompt": one} for one in by_id]),
        processing_class=tokens.tokenizer,
        rollout_func=exchange.draw,
    )
    for weight, values in exact:
        weight.data = values
    return trainer


def _arguments(folder: TrainFolder, recipe: Recipe, weights: list[float], longest: int) -> GRPOConfig:
    g, n = recipe.grpo, processes.count()
    if g.prompts % n or g.prompts * g.group_size % (g.micro_batch * n):
        raise UsageError(
            f"{n} processes can't share {g.prompts} prompts of {g.group_size} completions, {g.micro_batch} at a time",
            f"--set grpo.prompts={n} --set grpo.micro_batch={g.group_size}, or multiples of them",
        )
    return GRPOConfig(
        **shared_arguments(folder, seed=recipe.seed, save_steps=g.save_steps, keep=g.keep),
        max_steps=g.steps,
        per_device_train_batch_size=g.micro_batch,
        gradient_accumulation_steps=g.prompts * g.group_size // (g.micro_batch * n),
        num_generations=g.group_size,
        max_completion_length=longest,
        learning_rate=g.lr,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=g.warmup,
        beta=g.beta,
        epsilon=g.epsilon,
        epsilon_high=g.epsilon_high,
        loss_type=g.loss,
        multi_objective_aggregation=g.aggregation,
        scale_rewards=g.scale,
        reward_weights=weights,
        temperature=1.0,
        max_grad_norm=g.max_grad_norm,
        gradient_checkpointing=recipe.base.checkpointing,
        bf16=base.autocasts(recipe.base),
        log_completions=False,
    )
