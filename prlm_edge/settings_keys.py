"""What each setting is called and may hold, as data.

Not here: the defaults (the fields of `settings.Settings`), and reading and checking values (`settings.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Key:
    """What one setting may hold.

    Attributes:
        kind: str, int or float (an int is taken as a float, a bool as neither).
        about: One line for people: `config show`, `config init`.
        choices: The allowed strings; empty for any.
        low: The least number allowed.
        high: The greatest number allowed.
        optional: None is the default and means "not set"; in the environment "" says so.
        path: A file path: `~` is expanded, and a relative one in a file is relative to that file.
        words: Values of a path that name no file.
        advice: What to do about a number out of range.
    """

    kind: type
    about: str
    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = math.inf
    optional: bool = False
    path: bool = False
    words: tuple[str, ...] = ()
    advice: str = ""


KEYS: Mapping[str, Key] = {
    "user": Key(str, "the profile used when --user is not given", optional=True, path=True),
    "model": Key(str, "a name that `prlm-edge model list` shows, or a GGUF file"),
    "adapter": Key(
        str,
        "a LoRA adapter (GGUF) of that model, laid over it; none: not even the bundled one",
        optional=True,
        path=True,
        words=("none",),
    ),
    "task": Key(str, "the task used when --task is not given"),
    "retriever": Key(str, "how past items are chosen", ("none", "bm25", "dense", "hybrid", "recency", "random")),
    "k": Key(
        int, "past items shown to the model", low=1, high=1000, advice="to write without past items use retriever none"
    ),
    "layout": Key(str, "how the prompt shows past items", ("turns", "block")),
    "item_order": Key(
        str, "the order of past items: least relevant, oldest or longest first", ("relevance", "date", "length")
    ),
    "reasoning": Key(str, "reason first, and show it; auto: if trained to", ("auto", "show", "hide", "off")),
    "reasoning_tokens": Key(int, "reasoning budget in tokens (default: the task's own)", high=100_000, optional=True),
    "answer_tokens": Key(int, "answer budget in tokens (default: the task's own)", low=1, high=100_000, optional=True),
    "item_words": Key(int, "words shown of each past item", low=1, high=100_000),
    "full_items": Key(
        int, "items shown with their text, the best ones; others by key words (default: all)", high=1000, optional=True
    ),
    "temperature": Key(float, "0 always picks the likeliest token", high=10),
    "top_k": Key(int, "sample from the k likeliest tokens; 0 is off", high=10_000_000),
    "top_p": Key(float, "sample from the likeliest tokens that make up this probability; 1 is off", high=1),
    "min_p": Key(float, "least probability, relative to the likeliest token; 0 is off", high=1),
    "repeat_penalty": Key(float, "above 1 discourages repetition; 1 is off", low=0.1, high=10),
    "seed": Key(int, "the same seed and settings give the same text", high=2**32 - 1),
    "best_of": Key(int, "how many answers are written, of which the best is kept", low=1, high=64),
    "select": Key(
        str,
        "how the best of several answers is chosen",
        ("consensus", "rouge", "chrf", "logprob", "style", "blend", "reward"),
    ),
    "reward_model": Key(
        str, "folder of the reward model that select reward asks (default: the bundled one)", optional=True, path=True
    ),
    "blend_weights": Key(
        str, "file of the weights of select blend (default: the bundled one)", optional=True, path=True
    ),
    "threads": Key(int, "CPU threads; 0 chooses", high=4096),
    "n_ctx": Key(int, "largest context in tokens; 0 takes what the prompt needs", high=16_777_216),
    "prefix_cache": Key(
        str, "where the model's reading of past items is kept; disk holds them readably", ("off", "memory", "disk")
    ),
    "prefix_cache_mb": Key(int, "MiB it may take on disk", low=1, high=1_000_000),
    "base_url": Key(str, "an OpenAI-compatible server such as http://127.0.0.1:8080/v1; empty runs the model here"),
    "api_key": Key(str, "that server's key; PRLM_API_KEY keeps it out of the file"),
    "tasks_dir": Key(str, "folder of your own tasks, one TOML file each", optional=True, path=True),
}
