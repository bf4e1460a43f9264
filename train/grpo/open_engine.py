"""Which engine draws for a recipe on this machine: llama.cpp, or the trained model itself through Transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import torch

from prlm_edge.backends import model_file
from prlm_edge.errors import ConfigError
from prlm_edge.storage import expanded
from prlm_edge.train.config import Recipe
from prlm_edge.train.data.tokens import Tokens
from prlm_edge.train.grpo.rollout import Drawer
from prlm_edge.train.grpo.rollout_hf import HfDrawer
from prlm_edge.train.grpo.rollout_llama import LlamaDrawer


def who_draws(recipe: Recipe) -> Literal["llamacpp", "transformers"]:
    """What `grpo.rollouts` means for a recipe on this machine."""
    if recipe.grpo.rollouts != "auto":
        return recipe.grpo.rollouts
    in_gguf = recipe.base.precision != "nf4" and not _is_folder(recipe)
    return "llamacpp" if in_gguf and not torch.cuda.is_available() else "transformers"


def open_engine(recipe: Recipe, source: Path, folder: Path, tokens: Tokens) -> Drawer:
    """The engine for a recipe.

    Args:
        recipe: Resolved.
        source: Its base as a Hugging Face folder (`base.resolve`).
        folder: For the adapter's file.
        tokens: The base's tokenizer.

    Raises:
        ConfigError: llama.cpp is asked for, and there is no GGUF file of the weights that are trained.
        PrlmError: The GGUF file tokenizes differently from the trainer.
    """
    if who_draws(recipe) == "transformers":
        return HfDrawer(recipe, source, tokens)
    if recipe.base.precision == "nf4":
        raise ConfigError(
            "rollouts by llama.cpp need the very weights that are trained, and NF4's can't be had in GGUF yet",
            "--set grpo.rollouts=transformers, or base.precision=bf16",
        )
    if _is_folder(recipe):
        raise ConfigError(
            f"{recipe.base.model} is a Hugging Face folder, and rollouts by llama.cpp need a GGUF file",
            "--set grpo.rollouts=transformers, or name the model's GGUF file",
        )
    config = json.loads((source / "config.json").read_text("utf-8"))
    model = model_file(recipe.base.model)
    return LlamaDrawer(model, config, folder, tokens, n_ctx=recipe.data.max_tokens, seed=recipe.seed)


def _is_folder(recipe: Recipe) -> bool:
    return expanded(recipe.base.model).is_dir()
