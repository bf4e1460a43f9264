"""Reinforcement learning over reasoning and answers: TRL's GRPOTrainer, our rollouts, named rewards.

How it deviates from the paper (PrLM, arXiv 2508.07342; its code as far as it states settings):

- the reward of personalization comes from a model that sees the profile; the paper's cannot;
- terms are normalized before they are summed (GDPO), where the paper adds a 0..3 and two 0..0.1 terms;
- the format is forced from the first token, and graded; the paper waits for it to appear;
- rollouts are drawn at temperature 1 (the paper: 0.7), and the ratio is taken against the log-probabilities of whoever
  drew: by llama.cpp on a CPU, where what two engines and two quantizations differ by is so corrected for, else by the
  policy itself (`grpo.rollouts`);
- a LoRA adapter over a frozen base, from a warm start; the paper trains all weights of DeepSeek-R1-Distill-Qwen-1.5B;
- no reference model by default (beta 0); DAPO's loss and clipping instead of GRPO's.

`recipes/paper.yaml` takes back what can be. Stopped or killed, the same command goes on from the last whole checkpoint.
Not here: rewards (`rewards.py`), rollouts (`rollout.py`, `rollout_hf.py`), what differs from TRL's own trainer
(`policy_trainer.py`), rules to stop by (`stopping.py`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback, set_seed
from trl import GRPOConfig

from prlm_edge.errors import PrlmError
from prlm_edge.rerank.overlap import Counted, rouge_1, rouge_l
from prlm_edge.storage import write_error
from prlm_edge.train import base
from prlm_edge.train.config import Recipe
from prlm_edge.train.data.prompts import Prompt
from prlm_edge.train.data.tokens import Tokens
from prlm_edge.train.grpo.policy_trainer import PolicyTrainer
from prlm_edge.train.grpo.rollout import Drawer, open_engine
from prlm_edge.train.grpo.terms import make_terms
from prlm_edge.train.grpo.to_trl import as_trl_reward_funcs, splitter
from prlm_edge.train.run import memory
from prlm_edge.train.run.checkpoints import Checkpoints, Progress
from prlm_edge.train.run.folder import TrainFolder
from prlm_edge.train.run.log import RunLog
from prlm_edge.train.run.stop_callback import StopForCause
from prlm_edge.train.run.stopping import Verdict
from prlm_edge.train.run.watch import RunLogCallback, Watcher
from prlm_edge.types import Cancel, Sampling, Scorer

_FIELDS = ("reasoning", "answer", "finish_reason", "reasoning_truncated", "n_reasoning_tokens", "n_answer_tokens")


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `whole` if it came to its last step, else stopped on request or for the verdict's cause."""

    whole: bool
    verdict: Verdict


class _Dev(TrainerCallback):
    """Looks at dev users' answers, as a user would get them, before the first step and every few."""

    def __init__(self, engine: Drawer, prompts: Sequence[Prompt], recipe: Recipe, log: RunLog, cancel: Cancel) -> None:
        self._engine, self._prompts, self._recipe, self._log, self._cancel = engine, prompts, recipe, log, cancel
        self.trainer: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The start is a point too."""
        if state.global_step == 0:
            self._look(0)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Every `eval_steps`, and behind the last step."""
        if state.global_step % self._recipe.grpo.eval_steps == 0 or state.global_step >= state.max_steps:
            self._look(state.global_step)

    def _look(self, step: int) -> None:
        if not self._prompts or self._cancel.cancelled:
            return
        self._engine.load(self.trainer.accelerator.unwrap_model(self.trainer.model))
        said = self._engine.best(self._prompts, Sampling(repeat_penalty=self._recipe.grpo.dev_penalty), self._cancel)
        figures: dict[str, list[float]] = {"rouge1": [], "rougeL": [], "style": [], "truncated": []}
        for prompt, one in zip(self._prompts, said, strict=True):
            ours, theirs = Counted(one.answer), Counted(prompt.ask.target)
            figures["rouge1"].append(rouge_1(ours, theirs))
            figures["rougeL"].append(rouge_l(ours, theirs))
            figures["style"].append(prompt.ask.style.match(one.answer))
            figures["truncated"].append(float(one.reasoning_truncated or one.finish_reason == "length"))
        # Not by trainer.log: that counts as the step's own log, which would then be missing.
        self._log.dev(step, {name: sum(values) / len(values) for name, values in figures.items()})


def train(
    folder: TrainFolder,
    recipe: Recipe,
    prompts: Sequence[Prompt],
    dev: Sequence[Prompt],
    *,
    start: Path | None = None,
    scorer: Scorer | None = None,
    cancel: Cancel | None = None,
    progress: Progress = lambda done, total: None,
    watcher: Watcher | None = None,
) -> Outcome:
    """Train, or go on training.

    Args:
        folder: The run.
        recipe: Resolved.
        prompts: To draw from.
        dev: Of other users, to choose the adapter by; may be empty.
        start: The warm start's adapter; None begins with a fresh one.
        scorer: The reward model, for the term "personalization".
        cancel: Ends after the step under way, behind a checkpoint.
        progress: Called with (steps done, steps).
        watcher: Shows each step.

    Raises:
        ConfigError: Settings that don't go together; llama.cpp is to draw, and has no GGUF file to do it with.
        UsageError: `start` is of another model.
        PrlmError: The disk or the GPU's memory is full, or an engine failed: the checkpoints there are stay.
    """
    cancel = cancel or Cancel()
    set_seed(recipe.seed)
    source = base.resolve(recipe.base.model)
    tokens = base.load_tokens(source, recipe.data.max_tokens)
    engine = open_engine(recipe, source, folder.path / "engine", tokens)
    try:
        log = RunLog(folder.path)
        watch, stop = RunLogCallback(log, watcher), StopForCause(log)
        look = _Dev(engine, dev, recipe, log, cancel)
        trainer = _trainer(folder, recipe, source, tokens, engine, prompts, start, scorer, watch)
        look.trainer = trainer
        for callback in (watch, look, Checkpoints(folder, cancel, progress, has_dev=False), stop):
            trainer.add_callback(callback)
        latest = folder.latest()
        with memory.fitting("grpo.micro_batch", recipe.grpo.micro_batch):
            trainer.train(resume_from_checkpoint=str(latest) if latest else None)
        whole = trainer.state.global_step >= trainer.state.max_steps
        best = stop.best or folder.latest()
        if (whole or stop.verdict.stop) and best is not None:
            folder.keep_adapter(best)
        return Outcome(whole, stop.verdict)
    except OSError as error:
        raise write_error(folder.path, error) from error
    finally:
        engine.close()


def _trainer(
    folder: TrainFolder,
    recipe: Recipe,
    source: Path,
    tokens: Tokens,
    engine: Drawer,
    prompts: Sequence[Prompt],
    start: Path | None,
    scorer: Scorer | None,
    watch: RunLogCallback,
) -> PolicyTrainer:
    g, by_id = recipe.grpo, {prompt.id: prompt for prompt in prompts}
    if len(by_id) < g.prompts:
        raise PrlmError(
            f"{len(by_id)} prompts, and a step draws from {g.prompts}", "--set grpo.prompts=1, or more data"
        )
    budget = max(prompt.request.reasoning_tokens for prompt in prompts)
    terms = make_terms(g.rewards, scorer=scorer, reasoning_budget=budget)
    rewards = as_trl_reward_funcs(
        terms,
        g.rewards,
        {prompt.id: prompt.ask for prompt in prompts},
        group_size=g.group_size,
        split=splitter("<think>" if budget else "<answer>"),
        count=tokens.count,
        seen=watch.see,
    )
    model = base.load_model(source, recipe.base)
    nf4 = recipe.base.precision == "nf4"
    policy: Any = (
        base.resume_adapter(model, start, checkpointing=recipe.base.checkpointing)
        if start
        else base.add_adapter(model, recipe.lora, checkpointing=recipe.base.checkpointing, nf4=nf4)
    )
    longest = max(p.request.answer_tokens + p.request.reasoning_tokens + 24 for p in prompts)
    # TRL rounds an adapter over NF4 to bfloat16, in which a step of 1e-5 is lost in a weight of 1e-2.
    exact = [(weight, weight.data) for weight in policy.parameters() if weight.requires_grad]
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    trainer = PolicyTrainer(
        model=policy,
        args=_arguments(folder, recipe, [g.rewards[name] for name in terms], longest),
        reward_funcs=rewards,
        train_dataset=Dataset.from_list([{"prompt": one, "prompt_id": one} for one in by_id]),
        processing_class=tokens.tokenizer,
        rollout_func=_rollouts(engine, by_id),
    )
    trainer.remove_callback(PrinterCallback)  # stdout is for data
    for weight, values in exact:
        weight.data = values
    return trainer


def _rollouts(engine: Drawer, prompts: Mapping[str, Prompt]) -> Any:
    """TRL's rollout_func: prompt ids, each as often as its group is large -> what was drawn."""

    def draw(ids: Sequence[str], trainer: Any) -> dict[str, Any]:
        engine.load(trainer.accelerator.unwrap_model(trainer.model))
        asked = [prompts[one] for one in ids]
        found = engine.draw(asked, str(trainer.state.global_step))
        return {
            "prompt_ids": [list(one.ids) for one in asked],
            "completion_ids": [one.ids for one in found],
            "logprobs": [one.logprobs for one in found],
            "env_mask": [[int(drawn) for drawn in one.drawn] for one in found],
            **{field: [getattr(one.rollout, field) for one in found] for field in _FIELDS},
        }

    return draw


def _arguments(folder: TrainFolder, recipe: Recipe, weights: list[float], longest: int) -> GRPOConfig:
    g = recipe.grpo
    n = g.prompts * g.group_size
    return GRPOConfig(
        output_dir=str(folder.checkpoints),
        max_steps=g.steps,
        per_device_train_batch_size=g.micro_batch,
        gradient_accumulation_steps=n // g.micro_batch,
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
        save_steps=g.save_steps,
        save_total_limit=g.keep,
        logging_steps=1,
        logging_nan_inf_filter=False,
        seed=recipe.seed,
        data_seed=recipe.seed,
        remove_unused_columns=False,
        gradient_checkpointing=recipe.base.checkpointing,
        bf16=base.autocasts(recipe.base),
        use_cpu=not torch.cuda.is_available(),
        report_to="none",
        disable_tqdm=True,
        log_completions=False,
    )
