"""Log-probabilities of a group's completions with their prompt evaluated once, not once for each.

The completions follow one another after their prompt in a single row; a mask lets each see the prompt and
itself alone, and positions go on from the prompt for each. Every number is the one of a row a completion, up to
rounding (tests/train/test_shared_prompt.py holds both to each other), for a fraction of the tokens: 8 completions of 66
after a prompt of 437 are 964 tokens instead of 4,024.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from prlm_edge.train.data.batches import IGNORED


@dataclass(frozen=True)
class Packed:
    """Completions of one prompt in one row of n tokens; `stacked`, a row for each of several prompts.

    Attributes:
        input_ids: (1, n): the prompt without its last token, then for each completion that token and all its own except
            the last.
        position_ids: (1, n).
        seen: (1, 1, n, n), true where a row's token attends to a column's.
        shift_labels: (1, n): the token after each; `IGNORED` in the prompt.
        places: (rows, T): where in the row each completion's token is predicted.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    seen: torch.Tensor
    shift_labels: torch.Tensor
    places: torch.Tensor


def same_prompts(prompts: torch.Tensor, mask: torch.Tensor) -> list[list[int]]:
    """Rows by equal prompts, in order of their first.

    Args:
        prompts: (rows, P) token ids, padded on the left.
        mask: (rows, P), 0 where padded.
    """
    found: dict[tuple[int, ...], list[int]] = {}
    for row, (ids, real) in enumerate(zip(prompts, mask, strict=True)):
        found.setdefault(tuple(ids[real.bool()].tolist()), []).append(row)
    return list(found.values())


def pack(prompt: torch.Tensor, completions: torch.Tensor, lengths: Sequence[int]) -> Packed:
    """Lay completions out in one row after their prompt.

    Args:
        prompt: (P,) token ids, P at least 1.
        completions: (rows, T) token ids, padded on the right.
        lengths: Of each completion without padding.
    """
    n_prompt, device = len(prompt), prompt.device
    starts = [n_prompt - 1 + sum(lengths[:row]) for row in range(len(lengths))]
    ids, labels, positions = [prompt[:-1]], [prompt.new_full((n_prompt - 1,), IGNORED)], [torch.arange(n_prompt - 1)]
    segment = [torch.zeros(n_prompt - 1, dtype=torch.long)]
    for row, length in enumerate(lengths):
        ids += [prompt[-1:], completions[row, : length - 1]] if length else []
        labels.append(completions[row, :length])
        positions.append(torch.arange(n_prompt - 1, n_prompt - 1 + length))
        segment.append(torch.full((length,), row + 1))
    owner, position = torch.cat(segment).to(device), torch.cat(positions).to(device)
    mine = (owner[:, None] == owner[None, :]) | (owner[None, :] == 0)
    seen = mine & (position[None, :] <= position[:, None])
    steps = torch.arange(completions.shape[1], device=device)
    places = (torch.tensor(starts, device=device)[:, None] + steps[None, :]).clamp(max=len(owner) - 1)
    return Packed(
        torch.cat(ids)[None],
        position[None],
        seen[None, None],
        torch.cat(labels)[None],
        places.clamp(max=len(owner) - 1),
    )


def logps_and_entropies(
    model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, n_keep: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability and entropy of every completion token in nats, (rows, n_keep) each, 0 where padded.

    Args:
        model: With TRL's fused head (`add_fused_lm_head`) and attention "sdpa", possibly wrapped.
        input_ids: (rows, P + n_keep): prompts padded on the left, completions on the right.
        attention_mask: The same, 0 where padded.
        n_keep: Tokens of the longest completion.
    """
    prompts, completions = input_ids[:, :-n_keep], input_ids[:, -n_keep:]
    prompt_mask, mask = attention_mask[:, :-n_keep], attention_mask[:, -n_keep:]
    groups = same_prompts(prompts, prompt_mask)
    packed = []
    for rows in groups:
        prompt = prompts[rows[0]][prompt_mask[rows[0]].bool()]
        packed.append(pack(prompt, completions[rows], mask[rows].sum(1).tolist()))
    batch = stacked(packed)
    found = model(
        input_ids=batch.input_ids,
        attention_mask=batch.seen,
        position_ids=batch.position_ids,
        shift_labels=batch.shift_labels,
        fused_lm_head=True,
    )
    owner = torch.tensor([group for group, rows in enumerate(groups) for _ in rows], device=mask.device)[:, None]
    order = torch.tensor([row for rows in groups for row in rows], device=mask.device).argsort()
    logps, entropies = (each[owner, batch.places][order] for each in (found.log_probs, found.entropy))
    return logps.masked_fill(mask == 0, 0), entropies.masked_fill(mask == 0, 0)


def stacked(packed: Sequence[Packed]) -> Packed:
    """A row for each, padded on the right; a padding token attends to itself, so that no softmax is over nothing."""
    n = max(one.input_ids.shape[1] for one in packed)

    def padded(name: str, fill: int) -> torch.Tensor:
        rows = [getattr(one, name) for one in packed]
        return torch.cat([torch.nn.functional.pad(row, (0, n - row.shape[1]), value=fill) for row in rows])

    seen = torch.eye(n, dtype=torch.bool, device=packed[0].seen.device).repeat(len(packed), 1, 1, 1)
    for row, one in enumerate(packed):
        own = one.seen.shape[-1]
        seen[row, 0, :own, :own] = one.seen[0, 0]
    labels, places = padded("shift_labels", IGNORED), torch.cat([one.places for one in packed])
    return Packed(padded("input_ids", 0), padded("position_ids", 0), seen, labels, places)
