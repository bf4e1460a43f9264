"""Settings: defaults < user config.toml < --config file < PRLM_* environment < flag; every value knows its origin.

The fields of `Settings` are the one table of settings: from their names, types, defaults and descriptions come the
`PRLM_*` variables, the options of the command line, what one request may change, `prlm-edge config` and docs/cli.md.

Nothing is ignored silently: an unknown key, an unknown `PRLM_*` variable and a value of the wrong type are errors that
name the place and the nearest right spelling.
"""

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar, get_args

from prlm_edge import storage
from prlm_edge.errors import BAD_DATA, ConfigError, UsageError, did_you_mean, first_line
from prlm_edge.types import Sampling

ENV_PREFIX = "PRLM_"
OTHER_ENV = ("PRLM_HOME", "PRLM_DEBUG")  # not settings: where everything lives, and tracebacks
LISTED = "`prlm-edge config show` lists the settings"
_NOUNS = {str: "text", int: "a whole number", float: "a number"}
_T = TypeVar("_T")


@dataclass(frozen=True)
class Key:
    """What one setting may hold, and how it is shown.

    Attributes:
        about: One line for people.
        kind: str, int or float (an int is taken as a float, a bool as neither).
        optional: None is the default and means "not set"; in the environment "" says so.
        choices: The allowed strings; empty for any.
        low: The least number allowed.
        high: The greatest number allowed.
        request: Whether one request may set it: `writer.generate(query, k=5)`.
        short: Its one-letter option.
        path: "FILE" or "DIR" for a path: `~` is expanded, and a relative one in a file is relative to that file.
        words: Values of a path that name no file.
        example: What `config init` shows where there is no default.
        secret: Never shown; no option of the command line, which other users of a machine can read.
        advice: What to do about a value that is not allowed.
    """

    about: str
    kind: type
    optional: bool
    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = math.inf
    request: bool = False
    short: str = ""
    path: str = ""
    words: tuple[str, ...] = ()
    example: str | int = ""
    secret: bool = False
    advice: str = ""


def _setting(default: _T, about: str, choices: str = "", **more: Any) -> _T:
    """A field of `Settings`: its default, and what `Key` holds of it besides its type; `choices` as words."""
    about_it = {"about": about, "choices": tuple(choices.split()), **more}
    made: _T = field(default=default, repr=not more.get("secret"), metadata=about_it)
    return made


@dataclass(frozen=True)
class Settings:
    """The values in force; each field is a setting.

    Attributes:
        origins: For every setting "default", the config file's path, the environment variable's name, or "flag".
    """

    user: str | None = _setting(
        None, "the profile: your past writing, a JSONL file", short="-u", path="FILE", example="me.jsonl"
    )
    model: str = _setting(
        "auto",
        "a name that `prlm-edge model list` shows, a GGUF file, or auto: the best pulled one that this machine runs "
        "quickly",
        short="-m",
    )
    adapter: str | None = _setting(
        None,
        "a LoRA adapter of the model: a GGUF file or an installed name; none: no adapter, not even the bundled one",
        path="FILE",
        words=("none",),
        example="mine.gguf",
    )
    engine: str = _setting(
        "auto",
        "what runs a local model: llama.cpp (gguf) or ONNX Runtime (onnx); auto takes llama.cpp where it is installed",
        "auto gguf onnx",
    )
    task: str = _setting("write", "what kind of text; `prlm-edge task list` names them", short="-t", request=True)
    retriever: str = _setting(
        "bm25", "how past items are chosen", "none bm25 dense hybrid recency random", short="-r", request=True
    )
    k: int | None = _setting(
        None,
        "past items shown to the model (default: 3 for a text, 5 for a diff or a few words)",
        low=1,
        high=1000,
        request=True,
        advice="to write without past items use retriever none",
        example=3,
    )
    layout: str = _setting("turns", "how the prompt shows past items", "turns block", request=True)
    item_order: str = _setting(
        "relevance",
        "the order of past items in the prompt: least relevant, oldest or longest first",
        "relevance date length",
        request=True,
    )
    reasoning: str = _setting(
        "auto",
        "whether the model reasons first; show prints it, auto does so where the model learned to",
        "auto show hide off",
        request=True,
    )
    reasoning_tokens: int | None = _setting(
        None, "most tokens of reasoning (default: the task's own)", high=100_000, request=True, example=64
    )
    answer_tokens: int | None = _setting(
        None, "most tokens of the answer (default: the task's own)", low=1, high=100_000, request=True, example=64
    )
    item_words: int | None = _setting(
        None,
        "words shown of each past item (default: 20 of a text, 8 of a diff)",
        low=1,
        high=100_000,
        request=True,
        example=40,
    )
    temperature: float = _setting(
        Sampling.temperature, "how random the answer is; 0 always picks the likeliest token", high=10, request=True
    )
    top_k: int = _setting(Sampling.top_k, "sample from the k likeliest tokens; 0 is off", high=10_000_000, request=True)
    top_p: float = _setting(
        Sampling.top_p, "sample from the likeliest tokens that make up this probability; 1 is off", high=1, request=True
    )
    min_p: float = _setting(
        Sampling.min_p, "least probability, relative to the likeliest token; 0 is off", high=1, request=True
    )
    repeat_penalty: float = _setting(
        Sampling.repeat_penalty, "above 1 discourages repetition; 1 is off", low=0.1, high=10, request=True
    )
    seed: int = _setting(Sampling.seed, "the same seed and settings give the same text", high=2**32 - 1, request=True)
    best_of: int = _setting(1, "how many answers are written, of which the best is kept", low=1, high=64, request=True)
    n: int = _setting(
        1,
        "how many different answers are shown to choose from, best first; as many are written, or best_of if that is "
        "more",
        low=1,
        high=9,
        request=True,
    )
    select: str = _setting(
        "blend",
        "how the best of several answers is chosen",
        "consensus logprob style blend reward",
        request=True,
        advice="consensus does what rouge and chrf did",
    )
    reward_model: str | None = _setting(
        None,
        "folder of the reward model for select reward (default: the bundled one)",
        path="DIR",
        example="reward",
    )
    blend_weights: str | None = _setting(
        None, "file of weights for select blend (default: the bundled one)", path="FILE", example="blend.json"
    )
    threads: int = _setting(
        0, "CPU threads, never more than there are cores; 0 takes as many as fit the machine", high=4096
    )
    n_ctx: int = _setting(0, "largest context in tokens; 0 takes what the prompt needs", high=16_777_216)
    prefix_cache: str = _setting(
        "memory",
        "where the shared beginning of prompts is kept once read; from the disk, past items can be recovered",
        "off memory disk",
    )
    prefix_cache_mb: int = _setting(1024, "largest size of the prefix cache on disk, in MiB", low=1, high=1_000_000)
    drafts: int = _setting(
        20,
        "how many of its last requests and answers the command line keeps for `prlm-edge accept`; 0 keeps none",
        high=1000,
    )
    accept: str = _setting(
        "no", "whether answers join your profile by themselves; picked: what generate --pick prints", "no picked"
    )
    base_url: str = _setting(
        "", "an OpenAI-compatible server such as http://127.0.0.1:8080/v1; empty runs the model here"
    )
    api_key: str = _setting(
        "", "the key of the server at base_url; the variable PRLM_API_KEY keeps it out of the file", secret=True
    )
    tasks_dir: str | None = _setting(None, "folder of your own tasks, one TOML file each", path="DIR", example="tasks")
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def n_drawn(self) -> int:
        """How many answers are drawn at first."""
        return max(self.best_of, self.n)

    @property
    def tasks_folder(self) -> Path | None:
        """The folder that `tasks_dir` names; None for none."""
        return Path(self.tasks_dir) if self.tasks_dir else None


def _key(hint: Any, about: Mapping[str, Any]) -> Key:
    kinds = get_args(hint) or (hint,)  # of `int | None`: int and NoneType
    return Key(kind=kinds[0], optional=type(None) in kinds, **about)


KEYS: Mapping[str, Key] = {f.name: _key(f.type, f.metadata) for f in fields(Settings) if f.metadata}
DEFAULTS: Mapping[str, Any] = {f.name: f.default for f in fields(Settings) if f.metadata}


def config_path() -> Path:
    """The user's config.toml (it need not exist)."""
    return storage.config_dir() / "config.toml"


def load_settings(
    *, config: Path | None = None, flags: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None
) -> Settings:
    """Merge all sources, each checked.

    Args:
        config: A further TOML file, which must exist; stronger than the user's own.
        flags: Values of the command line (or of an embedding program) by key; None means not given.
        env: The environment; `os.environ` by default.

    Raises:
        ConfigError: An unknown key or variable, a wrong value, or a file that can't be read.
    """
    values, origins = dict(DEFAULTS), dict.fromkeys(DEFAULTS, "default")

    def take(found: Mapping[str, Any], origin: str | None = None) -> None:
        values.update(found)
        origins.update({key: origin or ENV_PREFIX + key.upper() for key in found})

    user_file = config_path()
    if user_file.exists():
        take(read_config(user_file), str(user_file))
    if config is not None:
        take(read_config(config), str(config))
    take(read_env(os.environ if env is None else env))
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    take(
        {known_key(key, "flag"): check(key, value, flag(key)) for key, value in given.items()},
        "flag",
    )
    return Settings(**values, origins=origins)


def override(settings: Settings, options: Mapping[str, Any]) -> Settings:
    """`settings` with the options of one request; None means not given. A `select` that is a scorer stands for itself.

    Raises:
        UsageError: An option that can't be set for one request, or a value it may not have.
    """
    for key in options:
        if not (key in KEYS and KEYS[key].request):
            these = [name for name, spec in KEYS.items() if spec.request]
            hint = did_you_mean(key, these, f"these can: {', '.join(these)}")
            raise UsageError(f"{key!r} can't be set for one request", hint)
    given = {
        key: value
        for key, value in options.items()
        if value is not None and not (key == "select" and hasattr(value, "score"))
    }
    return replace(settings, **{key: check(key, value, key) for key, value in given.items()})


def read_config(path: Path) -> dict[str, Any]:
    """The checked settings of one TOML file.

    Raises:
        ConfigError: The file can't be read or parsed, or holds something that is no setting.
    """
    try:
        found = tomllib.loads(storage.read_small(path).decode("utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file", "check the path, or leave --config out") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder", "name a TOML file") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", "check its permissions") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})", "save it as UTF-8") from error
    except BAD_DATA as error:  # not TOML, or nested too deeply
        raise ConfigError(
            f"{path}: not valid TOML: {first_line(error)}", 'a line reads like: model = "default"'
        ) from error
    checked = {known_key(key, str(path)): check(key, value, f"{path}: {key}") for key, value in found.items()}
    folder = path.resolve().parent
    return {key: str(folder / value) if value and is_path(key, value) else value for key, value in checked.items()}


def read_env(env: Mapping[str, str]) -> dict[str, Any]:
    """The checked settings among the `PRLM_*` variables; an empty variable counts as not set.

    Raises:
        ConfigError: A `PRLM_*` variable that is no setting, or a wrong value.
    """
    found: dict[str, Any] = {}
    for name, text in sorted(env.items()):
        if not name.startswith(ENV_PREFIX) or name in OTHER_ENV or not text.strip():
            continue
        key = name.removeprefix(ENV_PREFIX).lower()
        if key not in KEYS:
            names = [*(ENV_PREFIX + k.upper() for k in KEYS), *OTHER_ENV]
            hint = did_you_mean(name, names, LISTED)
            raise ConfigError(f"environment variable {name} is no setting of prlm-edge", hint)
        found[key] = check(key, parse(key, text, name), name)
    return found


def known_key(key: str, where: str) -> str:
    """Return `key` if it is a setting.

    Raises:
        ConfigError: It is not; the hint names the nearest one.
    """
    if key not in KEYS:
        raise ConfigError(f"{where}: unknown setting {key!r}", did_you_mean(key, KEYS, LISTED))
    return key


def parse(key: str, text: str, where: str) -> Any:
    """The value that `text` (from the environment or the command line) stands for; not yet range-checked.

    Raises:
        ConfigError: A number was expected.
    """
    kind = KEYS[key].kind
    if kind is str:
        return text
    try:
        return kind(text.strip())
    except ValueError:
        raise ConfigError(f"{where}: {text!r} is not {_NOUNS[kind]}", _allowed(key)) from None


def check(key: str, value: Any, where: str) -> Any:
    """Return `value` as the setting's own type if the setting may hold it.

    Raises:
        ConfigError: It may not; the message starts with `where`, the hint says what is allowed.
    """
    spec = KEYS[key]
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, int) and value.bit_length() > 64:  # may be too large for a float, or to be printed
        value = math.inf if value > 0 else -math.inf
    if spec.kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(value, str) and spec.kind is str:
        return _check_text(key, value, where)
    if not isinstance(value, int | float) or isinstance(value, bool) or not isinstance(value, spec.kind):
        raise ConfigError(f"{where}: {value!r} is not {_NOUNS[spec.kind]}", _allowed(key))
    if not spec.low <= value <= spec.high:  # also refuses NaN
        raise ConfigError(f"{where}: {value!r} is out of range", _allowed(key))
    return value


def _check_text(key: str, value: str, where: str) -> str | None:
    spec = KEYS[key]
    if "\0" in value:
        raise ConfigError(f"{where}: {value!r} holds a null character", "leave it out")
    if spec.choices and value not in spec.choices:
        raise ConfigError(f"{where}: {key} can't be {value!r}", did_you_mean(value, spec.choices, _allowed(key)))
    if spec.optional and not value:
        return None
    if not value and DEFAULTS[key]:
        raise ConfigError(f"{where}: may not be empty", _allowed(key))
    if key == "base_url" and value:
        if "@" in value:  # said without the value: it may hold a password
            raise ConfigError(f"{where}: base_url holds a name or password", "put the server's key into PRLM_API_KEY")
        if not value.startswith(("http://", "https://")):
            raise ConfigError(f"{where}: {value!r} is not a URL", "it starts with http:// or https://")
    return os.path.expanduser(value) if spec.path else value  # noqa: PTH111 - stays a string


def _allowed(key: str) -> str:
    """One clause on what `key` may hold."""
    spec = KEYS[key]
    if spec.choices:
        text = "one of " + ", ".join(spec.choices)
    elif spec.kind is str:
        text = spec.about
    else:
        top = "" if spec.high == math.inf else f" and at most {spec.high}"
        text = f"{_NOUNS[spec.kind]}, at least {spec.low}{top}"
    return f"{key} is {text}" + (f"; {spec.advice}" if spec.advice else "")


def is_path(key: str, value: Any) -> bool:
    """Whether a value of `key` names a file, to be found from where it was written down."""
    return bool(KEYS[key].path) and value not in KEYS[key].words


def flag(key: str) -> str:
    """The option of the command line that gives `key`."""
    return f"-{key}" if len(key) == 1 else f"--{key.replace('_', '-')}"
