"""Warm start: supervised fine-tuning of a LoRA adapter on what users really wrote.

Transformers' Trainer does the work; prompts are the runtime's, the loss counts the user's own words alone. Stopped or
killed, the same command goes on from the last whole checkpoint and ends in the same adapter. The adapter kept is the
one of the lowest dev loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

from prlm_edge.errors import PrlmError, UsageError
from prlm_edge.train import base
from prlm_edge.train.config import Recipe
from prlm_edge.train.data import examples as data
from prlm_edge.train.data.batches import ExampleSet, Pad, answer_loss
from prlm_edge.train.run import processes
from prlm_edge.train.run.folder import TrainFolder
from prlm_edge.train.run.log import RunLog
from prlm_edge.train.run.trainer import Checkpoints, run_trainer, shared_arguments
from prlm_edge.train.run.watch import RunLogCallback
from prlm_edge.train.types import Progress
from prlm_edge.types import Cancel


class AnswerTrainer(Trainer):
    """A Trainer whose loss is `batches.answer_loss`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = True  # the loss is divided by a whole step's labels, not by micro-batch

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """See `answer_loss`."""
        loss = processes.inside(model, lambda inner: answer_loss(inner, inputs, num_items_in_batch))
        if num_items_in_batch is not None:  # of all processes, whose gradients are averaged
            loss = loss * processes.count()
        return (loss, {}) if return_outputs else loss

    def prediction_step(
        self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Any, None, None]:
        """Return only the loss: logits of a whole dev set would not fit into memory."""
        with torch.no_grad():
            inner = self.accelerator.unwrap_model(model)
            return answer_loss(inner, self._prepare_inputs(inputs)).detach(), None, None


class _Finite(TrainerCallback):
    """Ends a run whose loss or gradient is no number; what it saved before stays."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        loss, norm = (logs or {}).get("loss", 0.0), (logs or {}).get("grad_norm", 0.0)
        if not math.isfinite(float(loss)) or not math.isfinite(float(norm)):
            raise PrlmError(
                f"step {state.global_step}: the loss is no number any more",
                "lower warmstart.lr and choose another --out",
            )


def train(
    folder: TrainFolder,
    recipe: Recipe,
    examples: Sequence[data.Example],
    dev: Sequence[data.Example],
    *,
    start: Path | None = None,
    cancel: Cancel | None = None,
    until: float = math.inf,
    progress: Progress = lambda done, total: None,
) -> bool:
    """Train, or go on training; returns whether it came to its end.

    Args:
        folder: The run.
        recipe: Resolved.
        examples: To learn from.
        dev: Of other users, to choose the adapter by; may be empty.
        start: An adapter to go on from instead of a fresh one.
        cancel: Ends after the current step, with a checkpoint.
        until: Ends likewise before the step that would not be done at this `time.monotonic()`.
        progress: Called with (steps done, steps).

    Raises:
        UsageError: No examples, one is longer than the model's context, or the processes can't share a step's.
        PrlmError: The loss became NaN, or the disk or the GPU's memory is full: the checkpoints there are stay.
    """
    if not examples:
        raise UsageError("no examples to learn from", "check the data")
    set_seed(recipe.seed)
    cancel = cancel or Cancel()
    trainer = _trainer(folder, recipe, examples, dev, start)
    checkpoints = Checkpoints(folder, cancel, progress, has_dev=bool(dev), until=until)
    callbacks = (checkpoints, RunLogCallback(RunLog(folder.path, writes=processes.first()), sample_every=0), _Finite())
    micro_batch = recipe.warmstart.micro_batch
    whole = run_trainer(trainer, folder, callbacks, knob="warmstart.micro_batch", value=micro_batch)
    if whole and processes.first():
        best = trainer.state.best_model_checkpoint
        source = Path(best) if best and Path(best).is_dir() else folder.latest()
        assert source is not None  # the last step always saves
        folder.keep_adapter(source)
    processes.wait()
    return whole


def _trainer(
    folder: TrainFolder,
    recipe: Recipe,
    examples: Sequence[data.Example],
    dev: Sequence[data.Example],
    start: Path | None,
) -> AnswerTrainer:
    source = base.resolve(recipe.base.model)
    adapted = base.load_policy(source, recipe, start)
    _check_length(adapted, [*examples, *dev])
    tokens = base.load_tokens(source, recipe.data.max_tokens)
    pad = tokens.tokenizer.pad_token_id
    w = recipe.warmstart
    ordered = data.in_order(examples, w.epochs, w.batch, recipe.seed)[: w.max_steps * w.batch or None]
    return AnswerTrainer(
        model=adapted,
        args=_arguments(folder, recipe, has_dev=bool(dev)),
        train_dataset=ExampleSet(ordered),
        eval_dataset=ExampleSet(list(dev)) if dev else None,
        data_collator=Pad(pad if isinstance(pad, int) else 0),
    )


def _check_length(model: Any, examples: Sequence[data.Example]) -> None:
    """Refuse positions that the model never saw: they would be learned from without a word.

    Raises:
        UsageError: An example is longer than the model's context.
    """
    longest, limit = max(len(one.ids) for one in examples), getattr(model.config, "max_position_embeddings", None)
    if limit and longest > limit:
        raise UsageError(
            f"an example of {longest} tokens, and the model takes {limit}", f"--set data.max_tokens={limit}"
        )


def _arguments(folder: TrainFolder, recipe: Recipe, *, has_dev: bool) -> TrainingArguments:
    w = recipe.warmstart
    n = processes.count()
    micro = min(w.micro_batch, max(1, w.batch // n))
    if w.batch % (micro * n):
        raise UsageError(
            f"{n} processes can't share the {w.batch} examples of a step, {micro} at a time",
            f"--set warmstart.batch={micro * n}",
        )
    dev: dict[str, Any] = {}
    if has_dev:
        steps = w.eval_steps or 0
        dev = {
            "eval_strategy": "steps" if steps else "no",
            "eval_steps": steps or None,
            "per_device_eval_batch_size": micro,
            "metric_for_best_model": "eval_loss",
            "greater_is_better": False,
        }
    return TrainingArguments(
        **shared_arguments(folder, seed=recipe.seed, save_steps=w.save_steps, keep=w.keep),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=w.batch // (micro * n),
        num_train_epochs=1,  # `data.in_order` lays out all of them
        learning_rate=w.lr,
        lr_scheduler_type=w.schedule,
        warmup_steps=w.warmup,
        weight_decay=w.weight_decay,
        max_grad_norm=w.max_grad_norm,
        train_sampling_strategy="sequential",
        label_names=["labels"],
        bf16=base.autocasts(recipe.base),
        **dev,
    )
