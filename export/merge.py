"""A trained adapter merged into its base: W + scale·B·A in 32 bits, then cut to 16. Never in bfloat16.

QLoRA trains over a base rounded to NF4; merged into the original weights, the adapter is another policy (KL .44 to the
trained one, where the dequantized NF4 base gives .0005). So both bases are measured against the policy as it was
trained, and the nearer one is taken (`choose`).
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from prlm_edge.errors import MissingError, ModelError
from prlm_edge.export.measure import Agreement, Probe, compare, hf_logprobs
from prlm_edge.storage import new_folder
from prlm_edge.train import base as bases
from prlm_edge.train.config import BaseConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MergeBase = Literal["original", "nf4"]
BASES: tuple[MergeBase, ...] = ("original", "nf4")
#: A model's files besides its weights; copied as it is, so that hashes stay the base's.
_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "generation_config.json",
)


@dataclass(frozen=True)
class Choice:
    """Which base is merged into, and why.

    Attributes:
        base: The nearer one to the trained policy.
        found: What each says against what the trained policy says, as merged and cut to 16 bits.
    """

    base: MergeBase
    found: Mapping[MergeBase, Agreement]


def trained_policy(base: Path, adapter: Path, config: BaseConfig) -> Any:
    """The model as training left it: a PeftModel over the base in the precision it was trained in, in eval mode.

    Args:
        base: The base's Hugging Face folder.
        adapter: Folder of the PEFT adapter.
        config: The recipe's `base`.

    Raises:
        UsageError: The adapter is of another model, or the precision can't be had here.
    """
    return bases.resume_adapter(bases.load_model(base, config), adapter).eval()


def adapted(base: Path, adapter: Path, of: MergeBase = "original") -> Any:
    """The adapter over a base in float32, not merged: what exports are compared with. A PeftModel in eval mode.

    Raises:
        MissingError: bitsandbytes is missing, for "nf4".
        UsageError: The adapter is of another model.
    """
    model = bases.load_model(base, BaseConfig(precision="fp32")).cpu()
    if of == "nf4":
        _take_nf4(model, base)
    return bases.resume_adapter(model, adapter).eval()


def merged(base: Path, adapter: Path, of: MergeBase = "original") -> PreTrainedModel:
    """The merged model, its weights rounded to 16 bits but kept in float32 to compute with.

    Raises:
        MissingError: bitsandbytes is missing, for "nf4".
        ModelError: A weight that is no number, or too large for 16 bits.
        UsageError: The adapter is of another model.
    """
    import torch

    done: PreTrainedModel = adapted(base, adapter, of).merge_and_unload()
    with torch.no_grad():
        for name, weight in done.named_parameters():
            weight.copy_(weight.half())
            if not bool(torch.isfinite(weight).all()):
                raise ModelError(f"{name}: a weight is too large for 16 bits, or no number", "train with a lower rate")
    return done.eval()


def merge(base: Path, adapter: Path, target: Path, of: MergeBase = "original") -> None:
    """Write the merged model as a Hugging Face folder in f16, with the base's tokenizer; whole or not at all.

    Args:
        base: The base's Hugging Face folder.
        adapter: Folder of the PEFT adapter.
        target: The new folder; one that is there is replaced.
        of: Which weights are merged into.

    Raises:
        MissingError, ModelError, UsageError: See `merged`.
        PrlmError: The disk is full or not writable.
    """
    import torch

    model = merged(base, adapter, of).to(torch.float16)
    model.config.use_cache = True  # training turned it off
    with new_folder(target) as work:
        model.save_pretrained(work)
        for name in _FILES:
            if (base / name).is_file():
                shutil.copyfile(base / name, work / name)


def choose(base: Path, adapter: Path, config: BaseConfig, wanted: Sequence[Probe]) -> Choice:
    """Measure both merge bases against the trained policy, and take the nearer one.

    Without bitsandbytes there is no NF4: then nothing was trained on it either, and the original alone is measured.

    Args:
        base: The base's Hugging Face folder.
        adapter: Folder of the PEFT adapter.
        config: The recipe's `base`: the precision that the policy was trained in.
        wanted: Where distributions are compared.

    Raises:
        UsageError, ModelError: See `trained_policy` and `merged`.
    """
    policy = trained_policy(base, adapter, config)
    said = list(hf_logprobs(policy, wanted))
    del policy
    found: dict[MergeBase, Agreement] = {}
    for of in BASES if find_spec("bitsandbytes") else BASES[:1]:
        gc.collect()  # one model in memory at a time
        found[of] = compare(wanted, said, hf_logprobs(merged(base, adapter, of), wanted))
    return Choice(min(found, key=lambda of: found[of].kl), found)


def _take_nf4(model: PreTrainedModel, base: Path) -> None:
    """Give `model` (float32) the weights that QLoRA computes with: NF4 dequantized, the others in bfloat16."""
    import torch

    if not find_spec("bitsandbytes"):
        raise MissingError("bitsandbytes is not installed", 'pip install "prlm-edge[train]"')
    source = bases.load_model(base, BaseConfig(precision="nf4"))
    dense = dequantized(source)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(dense[name])


def dequantized(model: Any) -> dict[str, Any]:
    """The weights of an NF4 model by name, in float32.

    Raises:
        ModelError: bitsandbytes repacked them in place, as its forward pass in eval mode does on a CPU unless
            `train.base.keep_gradients_right` forbids it; they can't be read any more.
    """
    import bitsandbytes as bnb

    packed = {name: one for name, one in model.named_modules() if isinstance(one, bnb.nn.Linear4bit)}
    found = {}
    for name, weight in model.named_parameters():
        layer = packed.get(name.rpartition(".")[0])
        if layer is None or not name.endswith(".weight"):
            found[name] = weight.data.float().cpu()
            continue
        state = layer.weight.quant_state
        if getattr(state, "packing_format_for_cpu", False):
            raise ModelError(f"{name}: repacked by bitsandbytes for inference", "load the model again to merge it")
        found[name] = bnb.functional.dequantize_4bit(layer.weight.data, state).float().cpu()
    return found
