"""Which model the setting `model = auto` means: the best pulled voice that this machine has the memory and speed for.

What decides is data of `models.toml`. The seconds are those that `model pull` measured on this machine
(`prlm_edge.backends.speed`), else the registry's, which are of two cores, scaled to this machine's. A request
measures nothing, and where one model is pulled it is taken without a look at the machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from prlm_edge import cpu
from prlm_edge.errors import BAD_DATA
from prlm_edge.models import store
from prlm_edge.models.catalog import DEFAULT, Model, limits, named, registry
from prlm_edge.settings import Settings
from prlm_edge.storage import NUMBER, fits, write_json

AUTO = "auto"
PROMPT, ANSWER = 600, 16  # tokens of the request by which models are compared
_SPEED = "speed.json"
_FORM = {"file": str, "size": int, "cpu": str, "threads": int, "prompt_s": NUMBER, "answer_s": NUMBER}


@dataclass(frozen=True)
class MeasuredSpeed:
    """How fast a file was run on a machine: tokens a second of prompts and of answers."""

    file: str
    size: int
    cpu: str
    threads: int
    prompt_s: float
    answer_s: float

    @property
    def seconds(self) -> float:
        """For a request of `PROMPT` tokens and its answer."""
        return PROMPT / self.prompt_s + ANSWER / self.answer_s


@dataclass(frozen=True)
class Fit:
    """How a model fits this machine: `problem` says why it doesn't, "" where it does."""

    model: Model
    seconds: float
    measured: bool
    problem: str


def chosen(settings: Settings) -> Settings:
    """`settings` with the name of the model that is run in place of "auto"; with a server, of the server's own."""
    if settings.model != AUTO:
        return settings
    return replace(settings, model=DEFAULT if settings.base_url else in_use())


def in_use() -> str:
    """The name of the model that "auto" means now; the default's where none is pulled."""
    found = pulled()
    if len(found) > 1 and found[0].rank:
        ranked = [one for one in found if one.rank and (one.voice is None) == (found[0].voice is None)]
        return next((model for model in ranked if not fit(model).problem), ranked[-1]).name
    return found[0].name if found else next(m.name for m in registry().values() if DEFAULT in m.aliases)


def pulled() -> list[Model]:
    """The installed language models, best first: voices by rank, models without an adapter of ours, all others."""
    found = []
    for _, manifest in store.installed():
        if manifest.kind in ("llm", "onnx-llm"):
            other = Model(manifest.name, manifest.kind, "", manifest.licence, ())
            found.append(named(manifest.name) or other)
    return sorted(found, key=lambda model: (model.voice is None, -model.rank))


def fit(model: Model) -> Fit:
    """How a voice fits this machine."""
    (most_s, share), memory, speed = limits(), cpu.memory(), speed_of(model.folder)
    seconds = speed.seconds if speed else model.seconds * 2 / cpu.default_threads()
    problem = ""
    if memory is not None and model.memory_mb * 1e6 > share * memory[0]:
        problem = f"needs {model.memory_mb / 1e3:.1f} GB of memory, more than {share:.0%} of {memory[0] / 1e9:.1f} GB"
    elif seconds > most_s:
        about = "takes" if speed else "takes about"
        problem = f"{about} {seconds:.1f} s here for a request of {PROMPT} tokens, more than {most_s:g} s"
    return Fit(model, seconds, speed is not None, problem)


def better_than(name: str) -> Iterator[Fit]:
    """The voices that rank above the model `name`, the best first, pulled or not."""
    model = named(name)
    for other in sorted(registry().values(), key=lambda other: -other.rank):
        if model is not None and 0 < model.rank < other.rank and other.voice is not None:
            yield fit(other)


def speed_of(folder: Path) -> MeasuredSpeed | None:
    """What was measured of an installed model on this machine; None where nothing was, or of another file."""
    try:
        found = json.loads((folder / _SPEED).read_bytes())
        if not fits(found, _FORM) or min(found["prompt_s"], found["answer_s"]) <= 0:
            return None
        speed = MeasuredSpeed(**found)
        same = (folder / speed.file).stat().st_size == speed.size
    except (OSError, *BAD_DATA):
        return None
    return speed if same and (speed.cpu, speed.threads) == (cpu.cpu_name(), cpu.default_threads()) else None


def keep_speed(path: Path, prompt_s: float, answer_s: float) -> None:
    """Keep in an installed model's folder how fast its file `path` is run here.

    Raises:
        OSError: It can't be written.
    """
    size, threads = path.stat().st_size, cpu.default_threads()
    write_json(
        path.parent / _SPEED, asdict(MeasuredSpeed(path.name, size, cpu.cpu_name(), threads, prompt_s, answer_s))
    )
