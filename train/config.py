"""Recipes: one commented YAML file each, checked against the fields below; a key that nothing reads is an error.

    base: {model: default, precision: bf16}
    data: {files: [...], k: 2}
    warmstart: {lr: 5.0e-4}

`--set section.key=value` overrides. The resolved recipe is saved with the run, and a run goes on only under the same
one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from prlm_edge.errors import BAD_DATA, ConfigError, UsageError, did_you_mean
from prlm_edge.evaluate.records import QueryForm
from prlm_edge.storage import read_yaml
from prlm_edge.types import Shape

PairKind = Literal["zero_shot", "other_profile", "neighbour", "style", "degenerate", "swap", "swap_near", "paper"]
Stage = Literal["reasons", "warmstart", "reward", "rejection", "grpo", "blend"]
_SECTIONS = {"rejection": ("rejection", "warmstart")}  # what a stage reads besides its own
RECIPES = Path(__file__).parent / "recipes"


Count = Annotated[int, Field(ge=1)]
NotNegativeInt = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Rate = Annotated[float, Field(gt=0, le=1)]
# What several stages have.
Warmup = Annotated[Share, Field(description="share of the steps in which the learning rate rises to its peak")]
SaveSteps = Annotated[Count, Field(description="steps between checkpoints")]
Keep = Annotated[int, Field(ge=2, description="checkpoints kept; the best is one of them")]
GradientNorm = Annotated[Positive, Field(description="gradients are clipped to it")]
WeightDecay = Annotated[NotNegative, Field(description="AdamW's")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


def _check_eval_steps(eval_steps: int, save_steps: int) -> None:
    if eval_steps % save_steps:  # only what was saved can be chosen
        raise ValueError(f"eval_steps must be a multiple of save_steps ({save_steps})")


class BaseConfig(_Section):
    """What is trained."""

    model: str = Field("smollm2-135m", description="a model's name, a GGUF file or a Hugging Face folder")
    precision: Literal["nf4", "bf16", "fp32"] = Field("bf16", description="nf4 is QLoRA; bf16 is quicker on a CPU")
    attention: Literal["sdpa", "eager"] = Field("sdpa", description="Transformers' attention implementation")
    checkpointing: bool = Field(False, description="trade a third of the speed for most of the activations' memory")


class LoraConfig(_Section):
    """The adapter (arXiv 2106.09685)."""

    r: Annotated[int, Field(ge=1, le=512)] = Field(16, description="rank")
    alpha: Positive = Field(32, description="the adapter is scaled by alpha / r")
    dropout: Share = Field(0.0, description="of the adapter's input")
    target_modules: Literal["all-linear"] | tuple[str, ...] = Field("all-linear", description="or names of layers")


class DataFile(_Section):
    """A data set of a mixture; what it leaves out is as the section `data` says."""

    path: str = Field(description="a data set as `prlm-edge eval` reads it")
    limit: Count | None = Field(None, description="users, drawn by the seed")
    per_user: Count | None = Field(None, description="rows of each user, the first ones; by default all")
    ask: tuple[QueryForm, ...] | None = Field(None, description="what of a row to ask with")
    more_per_user: NotNegativeInt | None = Field(None, description="further examples of each row, of past items")
    more_shapes: tuple[Shape, ...] | None = Field(None, description="what those ask with, by turns")


def _data_file(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


def _plain(file: DataFile) -> Any:
    found = {key: value for key, value in file if value is not None}
    return file.path if len(found) == 1 else {key: list(v) if isinstance(v, tuple) else v for key, v in found.items()}


#: In YAML a path alone, or a mapping with `path` and what differs from the section.
AnyDataFile = Annotated[DataFile, BeforeValidator(_data_file), PlainSerializer(_plain)]


class DataConfig(_Section):
    """What is learned from, and how it is shown: the prompt settings must be those of later use."""

    files: tuple[AnyDataFile, ...] = Field(
        (), description="data sets as `prlm-edge eval` reads them; several make a mixture, each with its own settings"
    )
    dev_files: tuple[AnyDataFile, ...] = Field((), description="of other users; judged, never learned from")
    ask: tuple[QueryForm, ...] = Field(
        (), description="what of a row to ask with: short, text, diff, or several; by default its diff, else its text"
    )
    limit: Count | None = Field(None, description="users of each file, drawn by the seed")
    dev_limit: Count = Field(60, description="dev users of each file")
    more_per_user: NotNegativeInt = Field(0, description="further examples: newest past items, as requests")
    more_shapes: tuple[Shape, ...] = Field(
        (), description="what those ask with, by turns: a topic, a text, or a change; by default as the user's row"
    )
    k: Annotated[int, Field(ge=1, le=64)] | None = Field(None, description="past items shown; by default as in use")
    retriever: Literal["bm25", "recency", "random", "none"] = Field("bm25", description="which past items")
    item_words: Count | None = Field(None, description="words of an item's text; by default as in use")
    item_order: Literal["relevance", "date", "length"] = Field("relevance", description="how items stand")
    layout: Literal["turns", "block"] = Field("turns", description="turns of a conversation, or one message")
    reasoning: bool | Literal["mixed"] = Field(
        False, description="whether examples reason before they answer; mixed: every other one, for use in both ways"
    )
    reasonings: str | None = Field(None, description="reasonings to learn in place of built lines: RUN/reasons.jsonl")
    max_tokens: Annotated[int, Field(ge=128)] = Field(1024, description="of prompt and answer; prompts are fitted")


class ReasonsConfig(_Section):
    """Reasonings drafted by a model that knows the true answers, for the warm start (`data.reasonings`)."""

    model: str | None = Field(None, description="who drafts, best a larger model; by default the base")
    drafts: Annotated[int, Field(ge=1, le=63)] = Field(4, description="of each request")


class WarmstartConfig(_Section):
    """Supervised fine-tuning on what users really wrote."""

    loss_on: Literal["answer", "all"] = Field("all", description="the last answer, or also those of the past items")
    epochs: Positive = Field(1.0, description="passes over the data")
    max_steps: NotNegativeInt = Field(0, description="stop after these steps; 0: by epochs")
    batch: Count = Field(8, description="examples a step")
    micro_batch: Count = Field(4, description="of them at a time; less takes less memory")
    lr: Rate = Field(5e-4, description="peak learning rate")
    warmup: Warmup = 0.05
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = Field("cosine", description="what follows")
    weight_decay: WeightDecay = 0.0
    max_grad_norm: GradientNorm = 1.0
    save_steps: SaveSteps = 25
    keep: Keep = 2
    eval_steps: NotNegativeInt = Field(50, description="steps between dev losses; 0: at the end alone")

    @model_validator(mode="after")
    def _checks(self) -> Self:
        _check_eval_steps(self.eval_steps, self.save_steps)
        if self.batch % min(self.micro_batch, self.batch):
            raise ValueError(f"batch must be a multiple of micro_batch ({self.micro_batch})")
        return self


class RewardConfig(_Section):
    """The reward model: a teacher that reads user and answer together, and the smaller student that devices run."""

    kinds: tuple[PairKind, ...] = Field(
        ("zero_shot", "other_profile", "neighbour", "style", "degenerate", "swap", "swap_near"),
        description="kinds of pairs; paper is another (train/reward/pairs.py says what each is)",
    )
    per_kind: Count = Field(1, description="pairs of each kind and request")
    users: Count = Field(200, description="of each file, for whom answers are generated")
    candidates: Annotated[int, Field(ge=1, le=64)] = Field(
        4, description="answers generated with the own profile, for the kind paper"
    )
    max_length: Annotated[int, Field(ge=128, le=512)] = Field(160, description="tokens of user, answer and request")
    batch: Count = Field(16, description="pairs a step")
    epochs: Positive = Field(2.0, description="the teacher's passes over the pairs")
    lr: Rate = Field(5e-5, description="the teacher's peak learning rate")
    center: NotNegative = Field(0.01, description="weight of (chosen + rejected)^2: keeps scores at 0")
    n_layers_student: Count = Field(3, description="first layers of the teacher, kept")
    student_epochs: Positive = Field(3.0, description="the student's passes")
    student_lr: Rate = Field(1e-4, description="the student's peak learning rate")
    mse_weight: NotNegative = Field(1.0, description="of the distance from the teacher's margins")
    warmup: Warmup = 0.06
    weight_decay: WeightDecay = 0.01
    bf16: bool = Field(False, description="compute in bfloat16; weights stay in float32")
    max_steps: NotNegativeInt = Field(0, description="stop after these steps, both; 0: by epochs")
    save_steps: SaveSteps = 50
    keep: Keep = 2


class BlendConfig(_Section):
    """Weights for choosing among several answers (`select blend`), learned from candidates for what users wrote."""

    users: Annotated[int, Field(ge=2)] = Field(120, description="of each file, for whom answers are drawn")
    candidates: Annotated[int, Field(ge=2, le=64)] = Field(8, description="answers drawn for each")


class RejectionConfig(_Section):
    """Rejection sampling: the model's own best answers with true reasoning, to be fine-tuned on."""

    samples: Annotated[int, Field(ge=1, le=64)] = Field(8, description="completions drawn of each prompt")
    keep: Count = Field(1, description="of them learned from at most")
    min_score: Annotated[float, Field(ge=0, le=3)] = Field(0.8, description="ROUGE-1 + -2 + -L that one must reach")
    min_claims: NotNegativeInt = Field(2, description="checkable claims that its reasoning must make")
    min_true: Annotated[float, Field(ge=0, le=1)] = Field(0.8, description="share of them that must hold")


class GrpoConfig(_Section):
    """Reinforcement learning with group-relative advantages (arXiv 2402.03300)."""

    steps: Count = Field(100, description="optimizer steps")
    prompts: Count = Field(4, description="prompts a step")
    group_size: Annotated[int, Field(ge=2)] = Field(8, description="completions of each")
    micro_batch: Count = Field(
        8, description="completions at a time, which share the evaluation of their prompt; less takes less memory"
    )
    lr: Rate = Field(2e-5, description="learning rate, constant after the warm-up")
    warmup: Warmup = 0.05
    beta: NotNegative = Field(0.0, description="weight of the divergence from the start; 0: none")
    epsilon: Annotated[float, Field(gt=0, lt=1)] = Field(0.2, description="the ratio is clipped below 1 - epsilon")
    epsilon_high: Positive = Field(0.28, description="and above 1 + epsilon_high (DAPO)")
    loss: Literal["grpo", "bnpo", "dr_grpo", "dapo"] = Field("dapo", description="how tokens are averaged; see TRL")
    aggregation: Literal["normalize_then_sum", "sum_then_normalize"] = Field(
        "normalize_then_sum", description="of the reward terms; the first keeps a small one from being drowned (GDPO)"
    )
    scale: Literal["group", "batch", "none"] = Field(
        "group", description="sum_then_normalize: what advantages are divided by"
    )
    rewards: dict[str, float] = Field(
        {"accuracy": 1.0, "format": 0.2, "style": 0.5, "length": 0.2, "no_echo": 0.2, "no_invention": 0.2},
        description="weights of accuracy, format, personalization, style, faithfulness, length, no_echo, no_invention",
    )
    reward_model: str | None = Field(None, description="folder of the exported reward model, for personalization")
    reasoning_tokens: Count | None = Field(None, description="budget; by default the task's own")
    rollouts: Literal["auto", "llamacpp", "transformers"] = Field(
        "auto", description="who draws; auto: llama.cpp on a CPU with bf16 or fp32 of a GGUF file, else Transformers"
    )
    max_grad_norm: GradientNorm = 1.0
    save_steps: SaveSteps = 10
    keep: Keep = 3
    eval_steps: Count = Field(20, description="steps between looks at dev users' answers")
    dev_penalty: Annotated[float, Field(ge=0.1)] = Field(1.1, description="repeat_penalty of dev answers, as in use")

    @model_validator(mode="after")
    def _checks(self) -> Self:
        if self.prompts * self.group_size % self.micro_batch:
            raise ValueError("micro_batch must divide prompts x group_size")
        _check_eval_steps(self.eval_steps, self.save_steps)
        if self.scale != "group" and self.aggregation == "normalize_then_sum":
            raise ValueError("scale is of aggregation sum_then_normalize alone")
        return self


class Recipe(_Section):
    """A whole recipe."""

    seed: int = Field(0, description="of data order, adapter and dropout")
    stages: tuple[Stage, ...] = Field(
        ("warmstart", "reward", "grpo"), description="what `prlm-edge train` runs, in this order"
    )
    base: BaseConfig = BaseConfig()
    lora: LoraConfig = LoraConfig()
    data: DataConfig = DataConfig()
    reasons: ReasonsConfig = ReasonsConfig()
    warmstart: WarmstartConfig = WarmstartConfig()
    reward: RewardConfig = RewardConfig()
    blend: BlendConfig = BlendConfig()
    rejection: RejectionConfig = RejectionConfig()
    grpo: GrpoConfig = GrpoConfig()

    def of_stage(self, stage: str) -> dict[str, Any]:
        """What decides the outcome of one stage: settings of other stages are left out."""
        values = self.model_dump(mode="json")
        return {key: values[key] for key in ("seed", "base", "lora", "data", *_SECTIONS.get(stage, (stage,)))}

    def fingerprint(self) -> str:
        """16 hex digits that differ where anything that decides a run's outcome does."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def named() -> list[str]:
    """Names of the recipes that come with prlm-edge."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def load(
    recipe: str, overrides: Sequence[str] = (), given: Mapping[str, Any] | None = None, root: Path | None = None
) -> Recipe:
    """Read and check a recipe.

    Args:
        recipe: One of `named()`, or a YAML file.
        overrides: `section.key=value`, values in YAML.
        given: The same as a mapping, {"data.files": [...]}; None values count as not given.
        root: Folder of the data files that the recipe itself names; by default its own.

    Raises:
        ConfigError: An unknown key or a wrong value; names it, and the nearest right one.
        UsageError: No such recipe.
    """
    path = RECIPES / f"{recipe}.yaml" if recipe in named() else Path(recipe)
    values = _read(path)
    _rename(values, lambda name: os.path.normpath((root or path.parent) / name))
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise UsageError(f"--set {override}: not of the form section.key=value", "such as --set warmstart.lr=1e-4")
        _put(values, key.strip(), _parse(text, override))
    for key, value in (given or {}).items():
        if value is not None:
            _put(values, key, value)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise _config_error(path, error) from None


def dump(recipe: Recipe, folder: Path = Path()) -> str:
    """The recipe as YAML for a file in `folder`, every value spelled out: relative paths are named from there."""
    values = recipe.model_dump(mode="json")
    _rename(values, lambda name: name if Path(name).is_absolute() else os.path.relpath(name, folder))
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def about(name: str) -> str:
    """What our recipe `name` is for: its first comment line."""
    return (RECIPES / f"{name}.yaml").read_text("utf-8").partition("\n")[0].removeprefix("#").strip()


def explained(recipe: Recipe) -> str:
    """The recipe as YAML, every value spelled out and every key with its meaning."""
    lines: list[str] = []
    for key, value in recipe.model_dump(mode="json").items():
        if not isinstance(value, dict):
            lines.append(_line(key, value, Recipe, ""))
            continue
        section = type(getattr(recipe, key))
        lines += ["", f"{key}:  # {(section.__doc__ or '').strip()}"]
        lines += [_line(name, inner, section, "  ") for name, inner in value.items()]
    return "\n".join(lines)


def _line(key: str, value: Any, section: type[BaseModel], indent: str) -> str:
    shown = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()
    return f"{indent}{key}: {shown}  # {section.model_fields[key].description}"


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        hint = f"a YAML file, or one of: {', '.join(named())}"
        raise UsageError(f"no recipe {str(path)!r}", did_you_mean(path.stem, named(), hint))
    return read_yaml(path)


def _rename(values: dict[str, Any], rename: Callable[[str], str]) -> None:
    """Name the data files of a recipe's values by `rename` of their paths."""
    data = values.get("data")
    for key in ("files", "dev_files"):
        found: Any = data.get(key) if isinstance(data, dict) else None
        for place, file in enumerate(found if isinstance(found, list) else ()):
            if isinstance(file, str):
                found[place] = rename(file)
            elif isinstance(file, dict) and "path" in file:
                file["path"] = rename(str(file["path"]))
    if isinstance(data, dict) and isinstance(data.get("reasonings"), str):
        data["reasonings"] = rename(data["reasonings"])


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{key}: {section} is no section", "such as warmstart.lr=1e-4")
        values = inner
    values[last] = value


def _parse(text: str, override: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, *BAD_DATA):
        raise UsageError(f"--set {override}: the value is not YAML", "quote it") from None
    if isinstance(value, str):  # YAML 1.1 takes 1e-4 for text
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _config_error(path: Path, error: ValidationError) -> ConfigError:
    first = error.errors()[0]
    where = [str(part) for part in first["loc"]]
    if first["type"] != "extra_forbidden":
        message = first["msg"].removeprefix("Value error, ")
        value = "" if isinstance(first["input"], dict) else f"it is {first['input']!r}; "
        return ConfigError(f"{path}: {'.'.join(where)}: {message}", f"{value}`prlm-edge train recipes` shows all keys")
    section: Any = Recipe
    for part in where[:-1]:
        section = DataFile if part.isdigit() else section.model_fields[part].annotation
    return ConfigError(
        f"{path}: unknown key {'.'.join(where)}",
        did_you_mean(where[-1], section.model_fields, f"there are: {', '.join(section.model_fields)}"),
    )
