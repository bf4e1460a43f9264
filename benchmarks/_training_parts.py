"""What benchmarks/training.py measures, each part in a process of its own; prints its figures as JSON lines."""

import argparse
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _common import ROOT, peak_mb

REASONS = {"data.reasoning": True, "grpo.reasoning_tokens": 32}
SKIPPED = 8  # of the profile's posts, the oldest: too few come before them
Figures = Iterator[dict[str, Any]]


def recipe_of(args: argparse.Namespace, **more: Any) -> Any:
    from prlm_edge.train import config

    given = {
        "base.model": args.model,
        "data.files": [str(args.work / "rows.jsonl")],
        "grpo.rollouts": "llamacpp",
        "grpo.rewards": {"accuracy": 1.0, "format": 0.2, "style": 0.5, "length": 0.2},  # needs no reward model
        "grpo.steps": args.steps,
        "grpo.prompts": args.prompts,
        "grpo.group_size": args.group,
        "grpo.micro_batch": min(args.prompts * args.group, 8),
        "warmstart.max_steps": args.steps,
        "warmstart.epochs": 100,
    }
    return config.load("edge-cpu", [], given | more)


def prompts_of(recipe: Any, source: Path) -> tuple[Any, list[Any]]:
    """The tokenizer, and the prompts."""
    from prlm_edge.train import base
    from prlm_edge.train.data import prompts

    tokens = base.load_tokens(source, recipe.data.max_tokens)
    return tokens, prompts.read(recipe.data.files, recipe, tokens, limit=None)[0]


def policy_of(recipe: Any, source: Path) -> Any:
    """The base under a fresh adapter, as it is trained."""
    from prlm_edge.train import base

    return base.add_adapter(base.load_model(source, recipe.base), recipe.lora, checkpointing=False, nf4=False)


def asked_in(round_: int, prompts: list[Any], args: argparse.Namespace) -> list[Any]:
    """The prompts of a round, each as often as its group is large."""
    chosen = [prompts[(round_ * args.prompts + place) % len(prompts)] for place in range(args.prompts)]
    return [prompt for prompt in chosen for _ in range(args.group)]


def prepare(args: argparse.Namespace) -> Figures:
    """Rows, and the base unpacked: that would count as another part's memory."""
    from prlm_edge.train import base

    items = [json.loads(line) for line in (ROOT / "examples" / "me.jsonl").read_text("utf-8").splitlines()]
    with (args.work / "rows.jsonl").open("w", encoding="utf-8") as stream:
        for place in range(SKIPPED, len(items)):
            query = {key: items[place][key] for key in ("id", "text", "date")}
            row = {"user_id": "me", "task": "acl_title", "query": query, "target": items[place]["title"]}
            stream.write(json.dumps({**row, "profile": items[:place]}) + "\n")
    yield {"base": str(base.resolve(args.model))}


def ours(args: argparse.Namespace) -> Figures:
    """Our engine takes over the policy's adapter and draws; a round whenever it is asked for one."""
    from prlm_edge.train import base
    from prlm_edge.train.grpo.open_engine import open_engine

    recipe = recipe_of(args, **REASONS)
    source = base.resolve(recipe.base.model)
    tokens, prompts = prompts_of(recipe, source)
    policy = policy_of(recipe, source)
    engine = open_engine(recipe, source, args.work / "engine", tokens)
    for wanted in rounds():
        asked = asked_in(wanted["round"], prompts, args)
        started = time.perf_counter()
        engine.load(policy)
        loaded = time.perf_counter()
        found = engine.draw(asked, str(wanted["round"]))
        yield {
            "seconds": time.perf_counter() - started,
            "adapter_s": loaded - started,
            "samples": len(found),
            "tokens": sum(sum(one.drawn) for one in found),
            "prompt_tokens": sum(len(one.ids) for one in asked) / len(asked),
        }
    engine.close()


def theirs(args: argparse.Namespace) -> Figures:
    """TRL's GRPOTrainer draws by Transformers' `generate`.

    A round's "tokens" are how many a sample is to have; 0: until it ends. The prompts are the same, to the tag that
    they end in, and no format is forced after it.
    """
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from prlm_edge.train import base

    recipe = recipe_of(args, **REASONS)
    source = base.resolve(recipe.base.model)
    tokens, prompts = prompts_of(recipe, source)
    policy = policy_of(recipe, source)
    policy.config.use_cache = True  # training goes without, generation must not
    n = args.prompts * args.group
    trainer = GRPOTrainer(
        model=policy,
        args=GRPOConfig(
            output_dir=str(args.work / "trl"),
            per_device_train_batch_size=n,
            num_generations=args.group,
            temperature=1.0,
            max_completion_length=64,
            bf16=False,
            gradient_checkpointing=False,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
        ),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        train_dataset=Dataset.from_list([{"prompt": "-"}] * n),
        processing_class=tokens.tokenizer,
    )
    settings = trainer.generation_config
    for wanted in rounds():
        asked = asked_in(wanted["round"], prompts, args)
        longest = max(one.request.reasoning_tokens + one.request.answer_tokens for one in asked)
        settings.max_new_tokens, settings.min_new_tokens = wanted["tokens"] or longest, wanted["tokens"] or None
        started = time.perf_counter()
        drawn, _ = trainer._generate_single_turn([list(one.ids) for one in asked], None, {}, args.group)
        seconds = time.perf_counter() - started
        yield {"seconds": seconds, "samples": len(drawn), "tokens": sum(map(len, drawn))}


def step(args: argparse.Namespace, folder_name: str = "grpo") -> Figures:
    """Seconds of each part of the GRPO steps after the first."""
    from accelerate.optimizer import AcceleratedOptimizer

    from prlm_edge.train import base
    from prlm_edge.train.grpo import stage as grpo
    from prlm_edge.train.run import folder as run_folder

    recipe, clock = recipe_of(args, **REASONS), Clock()
    _, prompts = prompts_of(recipe, base.resolve(recipe.base.model))
    opened = grpo.open_engine

    def open_engine(*given: Any, **more: Any) -> Any:
        engine = opened(*given, **more)
        clock.watch(engine, "load", "adapter handed over")
        clock.watch(engine, "draw", "drawing")
        return engine

    grpo.open_engine = open_engine
    clock.watch(grpo.PolicyTrainer, "_calculate_rewards", "rewards")
    clock.watch(grpo.PolicyTrainer, "_prepare_inputs", "rest")
    clock.watch(grpo.PolicyTrainer, "training_step", "forward and backward")
    clock.watch(AcceleratedOptimizer, "step", "optimizer")
    folder = run_folder.TrainFolder.open(args.work / folder_name, "grpo", recipe, {})
    grpo.train(folder, recipe, prompts, (), shown=clock.step)
    yield {"parts": clock.mean(), "peak_mb": peak_mb(), "samples": args.prompts * args.group}


def apart(args: argparse.Namespace) -> Figures:
    """The same by TRL's own way: a row, with its prompt, for each completion."""
    from prlm_edge.train.grpo import shared_prompt

    shared_prompt.same_prompts = lambda prompts, mask: [[row] for row in range(len(prompts))]
    yield from step(args, "apart")  # a folder of its own: in the other's it would go on from its last step


def warm(args: argparse.Namespace) -> Figures:
    """Pace of the warm start's steps after the first: tokens of prompts and answers, padding not counted."""
    from prlm_edge.train import base, warmstart
    from prlm_edge.train.data import examples as data
    from prlm_edge.train.run import folder as run_folder

    recipe = recipe_of(args)
    w = recipe.warmstart
    tokens = base.load_tokens(base.resolve(recipe.base.model), recipe.data.max_tokens)
    found = data.read(recipe.data.files, tokens, recipe.data, seed=0, limit=None, loss_on=w.loss_on)
    order = data.in_order(found.examples, w.epochs, w.batch, recipe.seed)
    ends: list[float] = []
    folder = run_folder.TrainFolder.open(args.work / "warmstart", "warmstart", recipe, {})
    warmstart.train(folder, recipe, found.examples, (), progress=lambda *_: ends.append(time.perf_counter()))
    n_tokens = [sum(len(one.ids) for one in order[i * w.batch : (i + 1) * w.batch]) for i in range(len(ends))]
    paces = [n / (end - start) for n, start, end in zip(n_tokens[1:], ends, ends[1:], strict=False)]
    yield {"tokens_per_s": paces, "peak_mb": peak_mb(), "tokens": sum(n_tokens), "examples": len(ends) * w.batch}


class Clock:
    """Times methods, each without those that it calls; as the view of a run it learns where a step ends."""

    def __init__(self) -> None:
        self._spent: dict[str, float] = defaultdict(float)
        self._inner = [0.0]
        self._steps: list[dict[str, float]] = []
        self._at = time.perf_counter()

    def watch(self, owner: Any, name: str, part: str) -> None:
        method = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self._part(part):
                return method(*args, **kwargs)

        setattr(owner, name, timed)

    @contextmanager
    def _part(self, part: str) -> Iterator[None]:
        self._inner.append(0.0)
        started = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - started
            self._spent[part] += seconds - self._inner.pop()
            self._inner[-1] += seconds

    def step(self, record: Any, n_steps: int) -> None:
        """A step was logged."""
        now = time.perf_counter()
        self._steps.append({**self._spent, "whole step": now - self._at})
        self._spent.clear()
        self._at = now

    def mean(self) -> dict[str, float]:
        """Seconds a step; what no method was watched for is rest. The first step warms up."""
        steps = self._steps[1:]
        means = {part: sum(one.get(part, 0.0) for one in steps) / len(steps) for part in self._steps[-1]}
        means["rest"] = means["whole step"] - sum(t for part, t in means.items() if part not in ("rest", "whole step"))
        return means


def rounds() -> Figures:
    """What the parent asks for, until it has no more."""
    print("ready", flush=True)
    for line in sys.stdin:
        yield json.loads(line)


PARTS: dict[str, Callable[[argparse.Namespace], Figures]] = {
    one.__name__: one for one in (prepare, ours, theirs, step, apart, warm)
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("part", choices=PARTS)
    options.add_argument("--model")
    options.add_argument("--work", type=Path)
    for name in ("steps", "prompts", "group"):
        options.add_argument(f"--{name}", type=int)
    args = options.parse_args()
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    for found in PARTS[args.part](args):
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
