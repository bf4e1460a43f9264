"""A Trainer's checkpoints made certain: sealed when whole, written before a stop on request and behind the last step.

Not here: what counts as whole (`run_folder.py`), stopping for cause (`stop_callback.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from prlm_edge.train.run.folder import TrainFolder, seal
from prlm_edge.types import Cancel

Progress = Callable[[int, int], None]


class Checkpoints(TrainerCallback):
    """See the module; also reports progress.

    Args:
        folder: Whose checkpoints they are.
        cancel: Ends the run behind the step under way.
        progress: Called with (steps done, steps).
        has_dev: Whether the Trainer has a dev set to judge the last step by.
    """

    def __init__(self, folder: TrainFolder, cancel: Cancel, progress: Progress, *, has_dev: bool) -> None:
        self._folder, self._cancel, self._progress, self._has_dev = folder, cancel, progress, has_dev

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A step is done."""
        self._progress(state.global_step, state.max_steps)
        if self._cancel.cancelled:
            control.should_save = control.should_training_stop = True
        elif state.global_step >= state.max_steps:
            control.should_save = True
            control.should_evaluate = self._has_dev

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A checkpoint was written."""
        seal(self._folder.checkpoints / f"checkpoint-{state.global_step}")
