"""Training the reward model: a 6-layer teacher that reads user and answer together, and a smaller student of it.

The teacher is MiniLM with a head of one number, trained by TRL's RewardTrainer on preference pairs (Bradley-Terry). The
student is the teacher's first layers, trained on the same pairs to give the teacher's margins (mean squared error) as
well as the right order. Stopped or killed, the same command goes on from the last whole checkpoint.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import BertForSequenceClassification, PreTrainedTokenizerFast, TrainerCallback, set_seed
from transformers.utils import logging as transformers_logging
from trl import RewardConfig as TrlConfig
from trl import RewardTrainer

from prlm_edge import models
from prlm_edge.errors import UsageError
from prlm_edge.rerank.reward.encoder import ENCODING, Encoded
from prlm_edge.storage import atomic_write, new_folder, write_json
from prlm_edge.train.config import RewardConfig
from prlm_edge.train.data.order import lay_out, n_steps
from prlm_edge.train.reward.batches import PadPairs, Tokenized, pad
from prlm_edge.train.run.folder import TrainFolder
from prlm_edge.train.run.trainer import Checkpoints, run_trainer, shared_arguments
from prlm_edge.train.types import Progress
from prlm_edge.types import Cancel


class PairTrainer(RewardTrainer):
    """RewardTrainer that also learns a teacher's margins, where the pairs have them.

    Args:
        mse_weight: Of the squared difference of margins.
        **kwargs: RewardTrainer's.
    """

    def __init__(self, *, mse_weight: float, **kwargs: Any) -> None:
        self.mse_weight = mse_weight
        super().__init__(**kwargs)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """TRL's loss, and the distance from the teacher's margins."""
        wanted = inputs.pop("teacher_margin", None)
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if wanted is not None:
            chosen, rejected = outputs.logits.float().squeeze(-1).chunk(2)
            distance = torch.nn.functional.mse_loss(chosen - rejected, wanted.to(chosen.dtype))
            loss = loss + self.mse_weight * distance
            self._metrics["train" if self.model.training else "eval"]["distance"].append(distance.item())
        return (loss, outputs) if return_outputs else loss

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write none: TRL's would ask trackers and hubs for names."""


def train_teacher(
    folder: Path, base: Path, pairs: Tokenized, config: RewardConfig, *, seed: int = 0, **options: Any
) -> Path | None:
    """Train the teacher, or go on; returns the folder of its model, None where it was cancelled.

    Args:
        folder: Of this stage.
        base: What it starts from: `base.fetch_base()`, or another BERT's folder with a tokenizer.json.
        pairs: To learn from.
        config: How.
        seed: Of head, order and draws.
        **options: `cancel`, `progress` and `callbacks` as `_train` takes them.

    Raises:
        UsageError: The folder holds a run of other pairs or another configuration.
        PrlmError: The disk is full.
    """
    return _train(_Stage("teacher", base, config.epochs, config.lr, 0, seed), folder, pairs, config, **options)


def train_student(
    folder: Path, teacher: Path, pairs: Tokenized, config: RewardConfig, *, seed: int = 0, **options: Any
) -> Path | None:
    """Train the student of a trained teacher on the same pairs; otherwise as `train_teacher`."""
    stage = _Stage("student", teacher, config.student_epochs, config.student_lr, config.n_layers_student, seed)
    return _train(stage, folder, pairs, config, **options)


def first_layers(model: BertForSequenceClassification, n: int) -> BertForSequenceClassification:
    """The model cut down to its first `n` layers; embeddings, pooler and head stay.

    Raises:
        UsageError: It has not so many.
    """
    layers = model.bert.encoder.layer
    if not 1 <= n <= len(layers):
        raise UsageError(f"a student of {n} layers from a teacher of {len(layers)}", f"choose 1 to {len(layers)}")
    model.bert.encoder.layer = layers[:n]
    model.config.num_hidden_layers = n
    return model


def load_trained(folder: Path) -> BertForSequenceClassification:
    """A trained model, ready to score."""
    return _load(folder).eval()


def score(model: BertForSequenceClassification, texts: Sequence[Encoded], batch: int = 32) -> NDArray[np.float32]:
    """The score of each text, shape (texts,)."""
    model.eval()
    order = sorted(range(len(texts)), key=lambda i: len(texts[i].ids))
    scores = np.zeros(len(texts), np.float32)
    for start in range(0, len(order), batch):
        places = order[start : start + batch]
        inputs = {name: one.to(model.device) for name, one in pad([texts[i] for i in places], 0).items()}
        with torch.inference_mode():
            scores[places] = model(**inputs).logits[:, 0].float().cpu().numpy()
    return scores


def _load(folder: Path) -> BertForSequenceClassification:
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        return BertForSequenceClassification.from_pretrained(folder, num_labels=1, dtype=torch.float32)
    finally:
        transformers_logging.set_verbosity(before)


@dataclass(frozen=True)
class _Stage:
    """What teacher and student differ in; training starts from the folder `source`, 0 layers keeps all of them."""

    name: str
    source: Path
    epochs: float
    lr: float
    n_layers: int
    seed: int

    def fresh(self) -> BertForSequenceClassification:
        model = _load(self.source)
        return first_layers(model, self.n_layers) if self.n_layers else model


def _train(
    stage: _Stage,
    path: Path,
    pairs: Tokenized,
    config: RewardConfig,
    *,
    cancel: Cancel | None = None,
    progress: Progress = lambda done, total: None,
    callbacks: Sequence[TrainerCallback] = (),
) -> Path | None:
    """Train what the stage starts from into path/model.

    Args:
        stage: Teacher or student.
        path: The stage's folder.
        pairs: To learn from.
        config: What both stages share.
        cancel: Ends after the current step, with a checkpoint.
        progress: Called with (steps done, steps).
        callbacks: More of the Trainer's callbacks, such as a log.
    """
    folder, model = _open(path, stage, pairs, config), path / "model"
    if model.exists():
        return model
    if stage.n_layers:
        pairs = replace(pairs, margins=_margins(path / "margins.npy", stage.source, pairs))
    transformers_logging.disable_progress_bar()
    set_seed(stage.seed)  # the head is drawn when the model is loaded
    trainer = _trainer(stage, folder, pairs, config)
    callbacks = (Checkpoints(folder, cancel or Cancel(), progress), *callbacks)
    if not run_trainer(trainer, folder, callbacks, knob="reward.batch", value=config.batch):
        return None
    with new_folder(model) as work:
        trainer.model.save_pretrained(work)
        shutil.copyfile(stage.source / "tokenizer.json", work / "tokenizer.json")
        write_json(path / "log.json", trainer.state.log_history)
    return model


def _trainer(stage: _Stage, folder: TrainFolder, pairs: Tokenized, config: RewardConfig) -> PairTrainer:
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(stage.source / "tokenizer.json"))
    tokenizer.pad_token = "[PAD]"  # noqa: S105 - no password
    arguments = TrlConfig(
        **shared_arguments(folder, seed=stage.seed, save_steps=config.save_steps, keep=config.keep),
        per_device_train_batch_size=config.batch,
        num_train_epochs=1,  # `order.lay_out` lays out all of them
        learning_rate=stage.lr,
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        center_rewards_coefficient=config.center or None,
        max_length=None,  # the encoder has cut the texts
        bf16=config.bf16,
        activation_checkpointing=False,
        train_sampling_strategy="sequential",
    )
    ids = [str(place) for place in range(len(pairs.chosen))]
    steps = config.max_steps or n_steps(len(ids), stage.epochs, config.batch)
    return PairTrainer(
        mse_weight=config.mse_weight,
        model=stage.fresh(),
        args=arguments,
        train_dataset=pairs.dataset().select(lay_out(ids, pairs.lengths, steps, config.batch, stage.seed)),
        data_collator=PadPairs(int(tokenizer.pad_token_id)),
        processing_class=tokenizer,
    )


def _margins(kept: Path, teacher: Path, pairs: Tokenized) -> list[float]:
    """The teacher's margins of the pairs; kept, since they cost as much as a third of an epoch."""
    if not kept.exists():
        model = load_trained(teacher)
        with atomic_write(kept) as stream:
            np.save(stream, score(model, pairs.chosen) - score(model, pairs.rejected))
    margins: list[float] = np.load(kept).tolist()
    return margins


def _open(path: Path, stage: _Stage, pairs: Tokenized, config: RewardConfig) -> TrainFolder:
    asked = {
        "stage": stage.name,
        "config": config.model_dump(mode="json") | {"seed": stage.seed},
        "pairs": pairs.sha256,
        "weights": models.sha256_of(stage.source / "model.safetensors"),
        "encoding": ENCODING,
    }
    return TrainFolder.begin(path, asked)
