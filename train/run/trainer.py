"""What the Trainers of all stages share: their arguments, checkpoints that are known to be whole, and going on."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback

from prlm_edge.storage import writing
from prlm_edge.train.run import memory, processes
from prlm_edge.train.run.folder import TrainFolder, seal
from prlm_edge.train.types import Progress
from prlm_edge.types import Cancel


def shared_arguments(folder: TrainFolder, *, seed: int, save_steps: int, keep: int) -> dict[str, Any]:
    """Arguments of every Trainer: nothing is printed or reported, NaN is logged as such, the seed decides all."""
    return {
        "output_dir": str(folder.checkpoints),
        "save_steps": save_steps,
        "save_total_limit": keep,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "seed": seed,
        "data_seed": seed,
        "remove_unused_columns": False,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": not torch.cuda.is_available(),
        "ddp_find_unused_parameters": False,  # every step uses the whole adapter
    }


def run_trainer(
    trainer: Any, folder: TrainFolder, callbacks: Sequence[TrainerCallback], *, knob: str, value: int
) -> bool:
    """Train, or go on from the last whole checkpoint; returns whether it came to its last step.

    Args:
        trainer: A Transformers Trainer with `shared_arguments`.
        folder: The run.
        callbacks: Are added to it.
        knob: The recipe's key that decides how much memory a step takes.
        value: What it is now.

    Raises:
        PrlmError: The disk or the GPU's memory is full; checkpoints stay.
    """
    trainer.remove_callback(PrinterCallback)  # it writes to stdout, which is for data
    for one in (_GiveBack(), *callbacks):
        trainer.add_callback(one)
    with processes.first_one_first():  # which removes torn ones
        latest = folder.latest()
    with writing(folder.path), memory.fitting(knob, value):
        trainer.train(resume_from_checkpoint=str(latest) if latest else None)
    return bool(trainer.state.global_step >= trainer.state.max_steps)


class _GiveBack(TrainerCallback):
    """Returns memory to the system behind each micro-batch: `memory.give_back`."""

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A micro-batch is done, and the step isn't."""
        memory.give_back()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A step is done."""
        memory.give_back()


class Checkpoints(TrainerCallback):
    """Saves before a stop on request and after the last step, seals what was saved, and reports progress.

    Args:
        folder: Whose checkpoints they are.
        cancel: Ends the run after the step under way.
        progress: Called with (steps done, steps).
        has_dev: Whether the Trainer has a dev set to judge the last step by.
        until: Ends the run before the step that would not be done at this `time.monotonic()`.
    """

    def __init__(
        self,
        folder: TrainFolder,
        cancel: Cancel,
        progress: Progress,
        *,
        has_dev: bool = False,
        until: float = math.inf,
    ) -> None:
        self._folder, self._cancel, self._progress, self._has_dev = folder, cancel, progress, has_dev
        self._until, self._begun = until, math.inf

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A step begins."""
        self._begun = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A step is done."""
        self._progress(state.global_step, state.max_steps)
        now = time.monotonic()
        if any(processes.gathered([self._cancel.cancelled or now + (now - self._begun) > self._until])):
            control.should_save = control.should_training_stop = True
        elif state.global_step >= state.max_steps:
            control.should_save = True
            control.should_evaluate = self._has_dev

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A checkpoint was written."""
        processes.wait()  # each has written its own state
        if processes.first():
            seal(self._folder.checkpoints / f"checkpoint-{state.global_step}")
        processes.wait()
