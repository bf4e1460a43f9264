"""Applies the stopping rules to a Trainer, and keeps the best checkpoint from being deleted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from prlm_edge.train.run import processes
from prlm_edge.train.run.log import RunLog
from prlm_edge.train.run.stopping import StopLimits, Verdict, dev_points, judge


class StopForCause(TrainerCallback):
    """Stops the run when a rule says so; add it after `RunLogCallback`, whose records it judges.

    Attributes:
        verdict: The rules' last word.
        best: The best checkpoint there is: the one saved at the best dev point, else the newest; None before the first.
    """

    def __init__(self, log: RunLog, limits: StopLimits | None = None) -> None:
        self._log, self._limits = log, limits or StopLimits()
        self.verdict = Verdict()
        self.best: Path | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Have NaN logged: by default the Trainer logs the mean of earlier losses in its place."""
        args.logging_nan_inf_filter = False
        self._choose(args, state)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Apply the rules to the records so far."""
        if self.verdict.stop:
            return
        self.verdict = processes.gathered([judge(self._log.records, self._limits)])[0]
        if self.verdict.stop:
            control.should_training_stop = True
            self._log.stop(state.global_step, self.verdict)
            self._spoiled(control)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The Trainer would save and evaluate here too."""
        self._spoiled(control)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The best checkpoint may be another now."""
        self._choose(args, state)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The last dev point may be younger than the last save."""
        self._choose(args, state)

    def _spoiled(self, control: Any) -> None:
        """Save and evaluate nothing after NaN: the weights are spoiled."""
        if self.verdict.rule == "non_finite":
            control.should_save = control.should_evaluate = False

    def _choose(self, args: Any, state: Any) -> None:
        saved = {}
        for path in Path(args.output_dir).glob("checkpoint-*"):
            step = path.name.rpartition("-")[2]
            if step.isdigit() and int(step) <= state.global_step:
                saved[int(step)] = path
        dev = dict(dev_points(self._log.records, self._limits.dev_figure))
        judged = [step for step in saved if math.isfinite(dev.get(step, math.nan))]
        self.best = (
            saved[max(judged, key=lambda step: (dev[step], -step))] if judged else saved.get(max(saved, default=0))
        )
        if judged and args.metric_for_best_model is None:
            state.best_model_checkpoint = str(self.best)  # the Trainer, which caps their number, spares it
