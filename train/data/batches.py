"""Examples as padded tensors, and the loss on the tokens that the model is to write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Dataset

from prlm_edge.train.data.examples import Example

IGNORED = -100  # PyTorch's label of a token without loss


class ExampleSet(Dataset[dict[str, Any]]):
    """Examples as the Trainer wants them."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, place: int) -> dict[str, Any]:
        example = self._examples[place]
        labels = [token if own else IGNORED for token, own in zip(example.ids, example.own, strict=True)]
        return {"input_ids": list(example.ids), "labels": labels}


@dataclass(frozen=True)
class Pad:
    """Pads a batch on the right; padding is masked, and never a label (the pad token may be the end of turn)."""

    pad: int

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """{"input_ids", "attention_mask", "labels"}, each (rows, longest)."""
        longest = max(len(row["input_ids"]) for row in rows)

        def padded(values: list[list[int]], fill: int) -> torch.Tensor:
            return torch.tensor([one + [fill] * (longest - len(one)) for one in values])

        return {
            "input_ids": padded([row["input_ids"] for row in rows], self.pad),
            "attention_mask": padded([[1] * len(row["input_ids"]) for row in rows], 0),
            "labels": padded([row["labels"] for row in rows], IGNORED),
        }


def answer_loss(model: Any, batch: dict[str, torch.Tensor], n_items: torch.Tensor | int | None = None) -> torch.Tensor:
    """Mean cross-entropy, in nats a token, over the labelled tokens.

    Logits are computed where there are labels alone: of a prompt of 600 tokens and a vocabulary of 49,152 they would
    otherwise take most of the memory and a fifth of the time.

    Args:
        model: A PeftModel over a causal language model.
        batch: As `Pad` makes it.
        n_items: Divide by this instead of by the number of labels here: labels of all of a step's micro-batches.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    # Padding stands on the right, where causal attention does not look: without a mask it is a third quicker.
    hidden = causal.model(input_ids=batch["input_ids"]).last_hidden_state
    labels = batch["labels"][:, 1:]
    wanted = labels != IGNORED
    logits = causal.lm_head(hidden[:, :-1][wanted]).float()
    total = torch.nn.functional.cross_entropy(logits, labels[wanted], reduction="sum")
    return total / (n_items if n_items is not None else wanted.sum().clamp(min=1))
