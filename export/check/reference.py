"""What an export is compared with: the trained model in float32 on real prompts and texts of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from prlm_edge.errors import UsageError
from prlm_edge.export import measure, merge
from prlm_edge.export.check.verify import Reference
from prlm_edge.export.merge import MergeBase
from prlm_edge.export.source import Trained
from prlm_edge.train import base
from prlm_edge.train.config import DataFile, Recipe
from prlm_edge.train.data import examples as data
from prlm_edge.train.data import prompts
from prlm_edge.train.data.rows import read_file
from prlm_edge.train.data.tokens import Tokens
from prlm_edge.train.types import Ask

N_TEXTS = 500
N_PROBES = 48
_T = TypeVar("_T")


@dataclass(frozen=True)
class Material:
    """Prompts, sequences and texts of a data set to compare models on.

    Attributes:
        tokens: The base's tokenizer.
        prompts: Requests as in use.
        sequences: Token ids of prompts with what the users really wrote.
        texts: To tokenize: requests, answers, past writing, and `base.ODD_TEXTS`.
        sha256: Of the data files, by name.
    """

    tokens: Tokens
    prompts: tuple[Ask, ...]
    sequences: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...]
    sha256: dict[str, str]

    @property
    def probes(self) -> list[measure.Probe]:
        """Where distributions are compared: the answers of up to `N_PROBES` sequences."""
        return measure.probes(self.sequences[:N_PROBES])


def read_material(source: Trained, files: Sequence[DataFile], limit: int) -> Material:
    """Prompts, sequences and texts of up to `limit` users of each file.

    Raises:
        UsageError: No data is named, or none is there.
    """
    if not files:
        raise UsageError("no data to hold the export to", "name some that it was trained on: --data dev.jsonl")
    missing = next((file.path for file in files if not Path(file.path).is_file()), None)
    if missing is not None:
        raise UsageError(f"{missing}: the run's data is not there", "name other: --data dev.jsonl")
    recipe = source.recipe
    tokens = base.load_tokens(source.base, recipe.data.max_tokens)
    asked, sha256 = prompts.read(files, recipe, tokens, limit=limit)
    learned = data.read(files, tokens, recipe.data, seed=recipe.seed, loss_on="answer", limit=limit)
    return Material(
        tokens,
        tuple(_spread(asked, 2 * N_PROBES)),
        tuple(one.ids for one in _spread(learned.examples, 2 * N_PROBES)),
        tuple(_texts(files, recipe, limit)),
        sha256,
    )


def make_reference(source: Trained, material: Material, of: MergeBase = "original") -> Reference:
    """The trained model over the base `of`, in float32, with what it is asked.

    Raises:
        UsageError: The adapter is of another model.
        MissingError: bitsandbytes is missing, for "nf4".
    """
    policy = merge.adapted(source.base, source.adapter, of)
    return Reference(policy, material.tokens, material.prompts, material.texts, material.probes)


def _texts(files: Sequence[DataFile], recipe: Recipe, limit: int) -> list[str]:
    found = dict.fromkeys(base.ODD_TEXTS)
    for file in files:
        for row in read_file(file, recipe.data, limit=limit, seed=recipe.seed).rows:
            found |= dict.fromkeys((row.query, row.target, *(item.title for item in row.profile)))
    return _spread([text for text in found if text.strip()], N_TEXTS)


def _spread(some: Sequence[_T], n: int) -> list[_T]:
    """At most `n` of them, taken evenly, so that every file is represented."""
    step = max(1, -(-len(some) // n))
    return list(some[::step])
