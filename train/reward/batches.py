"""Preference pairs as the reward model's Trainer takes them: token ids, token types, padded batches.

TRL's own collator leaves out token types; ours hands them on, and TRL's loss passes all of a batch to the model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from prlm_edge.errors import UsageError
from prlm_edge.rerank.reward.encoder import Encoded, Encoder
from prlm_edge.train.reward.pairs import Pair


@dataclass(frozen=True)
class Tokenized:
    """Pairs as token ids; with the teacher's margins they are what the student learns from."""

    chosen: Sequence[Encoded]
    rejected: Sequence[Encoded]
    margins: Sequence[float] | None = None

    @classmethod
    def of(cls, pairs: Sequence[Pair], encoder: Encoder) -> Tokenized:
        """Tokenize pairs.

        Raises:
            UsageError: There are none.
        """
        if not pairs:
            raise UsageError("no pairs to train the reward model on", "check the data and the kinds of pairs")
        return cls(
            [encoder.encode(pair.context, pair.chosen) for pair in pairs],
            [encoder.encode(pair.other, pair.rejected) for pair in pairs],
        )

    @property
    def sha256(self) -> str:
        """Hash of all token ids: a run goes on only with the pairs it began with."""
        digest = hashlib.sha256()
        for side in (self.chosen, self.rejected):
            for one in side:
                digest.update(np.array([len(one.ids), *one.ids, *one.types], np.int32).tobytes())
        return digest.hexdigest()

    @property
    def lengths(self) -> list[int]:
        """Tokens of each pair's longer text."""
        return [max(len(a.ids), len(b.ids)) for a, b in zip(self.chosen, self.rejected, strict=True)]

    def dataset(self) -> Dataset:
        """As RewardTrainer takes pairs that are tokenized already."""
        columns: dict[str, Any] = {
            "chosen_ids": [one.ids for one in self.chosen],
            "rejected_ids": [one.ids for one in self.rejected],
            "chosen_types": [one.types for one in self.chosen],
            "rejected_types": [one.types for one in self.rejected],
        }
        if self.margins is not None:
            columns["teacher_margin"] = list(self.margins)
        return Dataset.from_dict(columns)


@dataclass(frozen=True)
class PadPairs:
    """All chosen texts of a batch, then all rejected ones, padded to the longest."""

    pad_id: int = 0

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """`input_ids`, `attention_mask` and `token_type_ids` of shape (2 pairs, tokens)."""
        sides = ("chosen", "rejected")
        texts = [Encoded(one[f"{side}_ids"], one[f"{side}_types"]) for side in sides for one in features]
        batch = pad(texts, self.pad_id)
        if "teacher_margin" in features[0]:
            batch["teacher_margin"] = torch.tensor([one["teacher_margin"] for one in features])
        return batch


def pad(texts: Sequence[Encoded], pad_id: int) -> dict[str, torch.Tensor]:
    """A batch of the model's inputs, shape (texts, tokens of the longest)."""
    shape = len(texts), max(len(one.ids) for one in texts)
    ids, mask, types = (
        torch.full(shape, pad_id),
        torch.zeros(shape, dtype=torch.long),
        torch.zeros(shape, dtype=torch.long),
    )
    for row, one in enumerate(texts):
        ids[row, : len(one.ids)] = torch.tensor(one.ids)
        types[row, : len(one.ids)] = torch.tensor(one.types)
        mask[row, : len(one.ids)] = 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
