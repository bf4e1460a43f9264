"""What `prlm-edge doctor` finds out about models: there, whole, and small enough for the memory."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from prlm_edge import cpu, models
from prlm_edge.cli.doctor.checks import DENSE, Check, chooses_by_reward
from prlm_edge.cli.doctor.system import pip_command, trial
from prlm_edge.cli.shared.table import PROG
from prlm_edge.errors import MissingError, PrlmError
from prlm_edge.models import choice, onnx_copy, store, tuned_copy
from prlm_edge.models.adapters import is_ours, ours_for
from prlm_edge.models.engine import GGUF, ONNX, engine_of
from prlm_edge.rerank.reward.scorer import LazyReward
from prlm_edge.settings import Settings

_USE = " (select reward)"
_UNSET = f"{PROG} config unset select"  # the default way needs no model
_PROOF = "from pathlib import Path; from prlm_edge.rerank.reward.scorer import RewardScorer; RewardScorer(Path({!r}))"


def check_models(found: Settings) -> Iterator[Check]:
    """The language model that `generate` would load, and the embedder of dense and hybrid retrieval."""
    if found.base_url:
        yield Check("Models", "server", "note", f"{found.base_url} answers instead of a local model (not contacted)")
    else:
        used = choice.chosen(found).model
        adapter = ours_for(used) if is_ours(found) else None
        yield _model(used, "llm", needed=True, adapter=adapter, engine=engine_of(found))
        yield _choice(found, used)
    yield _model("minilm", "embedder", needed=found.retriever in DENSE)


def _choice(found: Settings, used: str) -> Check:
    """Why that model is in use, and what a better one would need."""
    pulled = choice.pulled()
    model = next((model for model in pulled if used in (model.name, *model.aliases)), None)
    fit = choice.fit(model) if model and model.rank else None
    if found.model != choice.AUTO:
        why = [f"{used} is set ({found.origins['model']})"]
    elif not pulled:
        why = [f"auto: {used} is the default, and no model is pulled"]
    elif len(pulled) == 1:
        why = [f"auto: {used} is the only model that is pulled"]
    else:
        which = "smallest of the pulled voices, and none" if fit and fit.problem else "best pulled voice that"
        why = [f"auto: {used} is the {which} fits this machine"]
    if fit is not None:
        pull = f"`{PROG} model pull {used}`"
        how = f"measured by the last {pull}" if fit.measured else f"guessed, until {pull} measures it"
        why.append(f"a request of {choice.PROMPT} tokens takes {fit.seconds:.1f} s ({how})")
    fixes, origin = [], found.origins.get("model", "")
    unset = f"unset {origin}" if origin.startswith("PRLM_") else f"{PROG} config unset model"
    for better in choice.better_than(used) if model else ():
        name, is_there = better.model.name, any(model.name == better.model.name for model in pulled)
        state = "is pulled" if is_there else f"would be {better.model.size / 1e6:.0f} MB to pull"
        why.append(f"{name} writes better: it {better.problem or state}")
        if not better.problem:
            fixes.append(unset if is_there else f"{PROG} model pull {name}")
    return Check("Models", "choice", "note" if fixes else "ok", "; ".join(why), fixes[0] if fixes else "")


def check_reward_model(found: Settings) -> Check:
    """The model that select reward asks; loaded, in a process of its own, only where it is the setting."""
    needed, model = chooses_by_reward(found), LazyReward(found.reward_model)
    check = partial(Check, "Models", "reward model", needed=needed)
    try:
        card = model.card()
    except MissingError as error:
        fix = pip_command(f"{PROG}[onnx]") if model.folder.is_dir() else error.hint
        return check("missing" if needed else "note", error.message + ("" if needed else _USE), fix)
    except PrlmError as error:
        return check("bad", error.message, error.hint)
    if found.select == "reward" and (problem := trial(_PROOF.format(str(model.folder)))):
        return check("bad", f"{model.folder} does not load: {problem}", _UNSET)
    size = sum(file.stat().st_size for file in model.folder.iterdir() if file.is_file())
    layers = f", {card['layers']} layers" if "layers" in card else ""
    loads = "it loads" if found.select == "reward" else "hashes verified"
    return check("ok", f"{size / 1e6:.0f} MB{layers}, {loads}{_USE}: {model.folder}")


def _model(name: str, kind: str, needed: bool, adapter: Path | None = None, engine: str = GGUF) -> Check:
    """A model that was pulled or is a file; `adapter`: ours, where it is written with that; `engine`: what runs it."""
    check = partial(Check, "Models", "model" if kind == "llm" else "embedder", needed=needed)
    try:
        path = models.resolve(name, kind, adapter=adapter, engine=engine)
        folder = path.parent if models.is_path(name) else models.find(name).folder
        manifest = store.read_manifest(folder)
        problems = _local_problems(path)
        if manifest:
            problems = store.verify(folder, manifest.name) + tuned_copy.verify(folder) + onnx_copy.verify(folder)
        copies = onnx_copy if engine == ONNX else tuned_copy
        merged = adapter is not None and copies.find(folder, models.find(name).tune, adapter) == path
    except MissingError as error:
        use = "" if needed else " (dense and hybrid retrieval)"
        return check("missing" if needed else "note", error.message + use, error.hint)
    except PrlmError as error:
        return check("bad", error.message, error.hint)
    except OSError as error:
        return check("bad", f"{error.filename}: {error.strerror}", "mend its permissions")
    if problems:
        return check("bad", "; ".join(problems), f"prlm-edge model pull {shlex.quote(name)}")
    size = sum(f.stat().st_size for f in (path.rglob("*") if path.is_dir() else [path]) if f.is_file())
    text = f"{name}, {size / 1e6:.0f} MB, {'hashes verified' if manifest else 'a file of your own'}"
    if adapter is not None:
        text += ", with its adapter merged in" if merged else ", with an adapter that the first request merges in"
    text += f": {path}"
    memory = cpu.memory()
    if memory is not None and size > memory[1]:
        text += f"; only {memory[1] / 1e6:.0f} MB of memory are available"
        return check("warn", text, "close other programs, or use a smaller model (`prlm-edge model list`)")
    return check("ok", text)


def _local_problems(path: Path) -> list[str]:
    """What is wrong with a model that `model pull` didn't install, by its first bytes."""
    if path.is_dir():
        return []
    with path.open("rb") as stream:
        return [] if stream.read(4) == b"GGUF" else [f"{path} is not a GGUF file"]
