"""Settings: defaults < user config.toml < --config file < PRLM_* environment < flag; every value knows its origin.

Nothing is ignored silently: an unknown key, an unknown `PRLM_*` variable and a value of the wrong type are errors that
name the place and the nearest right spelling. Not here: what each key may hold (`settings_keys.py`), and editing the
file (`cli/config.py`).
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from prlm_edge import storage
from prlm_edge.errors import ConfigError, did_you_mean
from prlm_edge.settings_keys import KEYS as KEYS
from prlm_edge.settings_keys import Key as Key
from prlm_edge.types import Sampling

ENV_PREFIX = "PRLM_"
OTHER_ENV = frozenset({"PRLM_HOME", "PRLM_DEBUG"})  # not settings: where everything lives, and tracebacks
LISTED = "`prlm-edge config show` lists the settings"


@dataclass(frozen=True)
class Settings:
    """The values in force; `KEYS` says what each one means.

    Attributes:
        origins: For every setting "default", the config file's path, the environment variable's name, or "flag".
    """

    user: str | None = None
    model: str = "default"
    adapter: str | None = None
    task: str = "write"
    retriever: str = "bm25"
    k: int = 3
    layout: str = "turns"
    item_order: str = "relevance"
    reasoning: str = "auto"
    reasoning_tokens: int | None = None
    answer_tokens: int | None = None
    item_words: int = 40
    full_items: int | None = None
    temperature: float = Sampling.temperature
    top_k: int = Sampling.top_k
    top_p: float = Sampling.top_p
    min_p: float = Sampling.min_p
    repeat_penalty: float = Sampling.repeat_penalty
    seed: int = Sampling.seed
    best_of: int = 1
    select: str = "blend"
    reward_model: str | None = None
    blend_weights: str | None = None
    threads: int = 0
    n_ctx: int = 0
    prefix_cache: str = "memory"
    prefix_cache_mb: int = 1024
    base_url: str = ""
    api_key: str = field(default="", repr=False)
    tasks_dir: str | None = None
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)


DEFAULTS: Mapping[str, Any] = {f.name: f.default for f in fields(Settings) if f.name != "origins"}


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
        {known_key(key, "flag"): check(key, value, "--" + key.replace("_", "-")) for key, value in given.items()},
        "flag",
    )
    return Settings(**values, origins=origins)


def read_config(path: Path) -> dict[str, Any]:
    """The checked settings of one TOML file.

    Raises:
        ConfigError: The file can't be read or parsed, or holds something that is no setting.
    """
    try:
        found = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file", "check the path, or leave --config out") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder", "name a TOML file") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", "check its permissions") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})", "save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}", 'a line reads like: model = "default"') from error
    checked = {known_key(key, str(path)): check(key, value, f"{path}: {key}") for key, value in found.items()}
    return {key: _beside(path, value) if is_path(key, value) else value for key, value in checked.items()}


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
            raise ConfigError(
                f"environment variable {name} is no setting of prlm-edge", did_you_mean(name, names, LISTED)
            )
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
        raise ConfigError(f"{where}: {text!r} is not {_noun(kind)}", _allowed(key)) from None


def check(key: str, value: Any, where: str) -> Any:
    """Return `value` as the setting's own type if the setting may hold it.

    Raises:
        ConfigError: It may not; the message starts with `where`, the hint says what is allowed.
    """
    spec = KEYS[key]
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if spec.kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(value, str) and spec.kind is str:
        return _check_text(key, value, where)
    if not isinstance(value, int | float) or isinstance(value, bool) or not isinstance(value, spec.kind):
        raise ConfigError(f"{where}: {value!r} is not {_noun(spec.kind)}", _allowed(key))
    if not spec.low <= value <= spec.high:  # also refuses NaN
        raise ConfigError(f"{where}: {value!r} is out of range", _allowed(key))
    return value


def _check_text(key: str, value: str, where: str) -> str | None:
    spec = KEYS[key]
    if spec.choices and value not in spec.choices:
        raise ConfigError(f"{where}: {key} can't be {value!r}", did_you_mean(value, spec.choices, _allowed(key)))
    if spec.optional and not value:
        return None
    if not value and DEFAULTS[key]:
        raise ConfigError(f"{where}: may not be empty", _allowed(key))
    if key == "base_url" and value and not value.startswith(("http://", "https://")):
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
        text = f"{_noun(spec.kind)}, at least {spec.low}{top}"
    return f"{key} is {text}" + (f"; {spec.advice}" if spec.advice else "")


def _noun(kind: type) -> str:
    return {str: "text", int: "a whole number", float: "a number"}[kind]


def is_path(key: str, value: Any) -> bool:
    """Whether a value of `key` names a file, to be found from where it was written down."""
    return KEYS[key].path and value not in KEYS[key].words


def _beside(path: Path, value: str | None) -> str | None:
    return value if value is None else str(path.resolve().parent / value)
