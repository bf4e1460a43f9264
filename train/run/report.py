"""The report of a training run: one HTML file without scripts, links or fonts from elsewhere.

Curves from run.jsonl, the recipe, why it stopped, and samples of what was written. What users and models wrote is
untrusted: Jinja2 escapes it, and matplotlib escapes what it draws.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from prlm_edge.errors import BAD_DATA, UsageError
from prlm_edge.evaluate.report import write_page
from prlm_edge.train.run.log import Record, read_records, read_samples
from prlm_edge.train.run.plots import Curve, curves

_N_SAMPLES = 60
#: Title, caption and what is drawn of a step's record: keys, or a dictionary of them.
_FIGURES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Reward", "The weighted sum of all terms, before it is normalized.", ("reward",)),
    ("Reward terms", "Each term's mean over a step's rollouts, unweighted.", ("terms",)),
    (
        "Spread of the terms",
        "Standard deviation over a step's rollouts: a term without any teaches nothing.",
        ("terms_std",),
    ),
    ("Loss", "Of the policy; with a reward it says little by itself.", ("loss",)),
    ("KL", "Against the reference policy, nats a token.", ("kl",)),
    ("Entropy", "Of the next token, nats: towards 0 nothing new is tried any more.", ("entropy",)),
    (
        "What teaches nothing",
        "Shares: groups that earn one reward throughout, completions cut off, tokens clipped.",
        ("zero_variance", "truncated", "clipped"),
    ),
    ("Lengths", "Tokens of a completion, and of its parts.", ("lengths",)),
    ("Gradient norm", "Before clipping.", ("grad_norm",)),
    ("Learning rate", "By schedule.", ("lr",)),
    ("Speed", "Tokens a second, prompts and completions.", ("tokens_per_s",)),
    ("Memory", "Peak so far, MB.", ("memory_mb", "gpu_mb")),
)


def write_report(folder: Path, out: Path | None = None, *, title: str = "", samples: bool = True) -> Path:
    """Write the report of the run in `folder`; returns where.

    Args:
        folder: With run.jsonl, and if there are any samples.jsonl, recipe.yaml and run.json.
        out: The HTML file, replaced as a whole; by default report.html in `folder`.
        title: Of the page; by default the folder's name.
        samples: Also show what was asked and written; False leaves only figures.

    Raises:
        UsageError: Nothing is logged there yet.
        PrlmError: The log is damaged, or the file can't be written.
    """
    from markupsafe import Markup

    out = out or folder / "report.html"
    records = list(read_records(folder / "run.jsonl"))
    steps = [one for one in records if one["kind"] == "step"]
    if not steps:
        raise UsageError(f"{folder}: nothing is logged there", "name the folder of a training run")
    drawn = [(name, about, _curves(steps, keys)) for name, about, keys in _FIGURES]
    drawn.insert(1, ("Dev", "Answers to dev users.", _dev_curves(records)))
    write_page(
        out,
        "prlm_edge.train.run",
        "report.html.j2",
        title=title or folder.resolve().name,
        plots=[(name, about, Markup(curves(lines))) for name, about, lines in drawn if lines],  # noqa: S704 - SVG text
        steps=steps,
        stop=next((one for one in reversed(records) if one["kind"] == "stop"), None),
        dev=_dev_table(records),
        config=_config(folder),
        samples=read_samples(folder / "samples.jsonl")[-_N_SAMPLES:] if samples else [],
        wall=float(steps[-1].get("wall_s", 0.0)),
    )
    return out


def _curves(steps: Sequence[Record], keys: Sequence[str]) -> list[Curve]:
    found: dict[str, list[tuple[float, float]]] = {}
    for one in steps:
        for key in keys:
            value = one.get(key)
            values = value if isinstance(value, Mapping) else {key: value}
            for name, number in values.items():
                if isinstance(number, int | float):
                    found.setdefault(name, []).append((one["step"], float(number)))
    return [Curve(name, tuple(points)) for name, points in found.items()]


def _dev_curves(records: Sequence[Record]) -> list[Curve]:
    found: dict[str, list[tuple[float, float]]] = {}
    for one in records:
        if one["kind"] == "dev":
            for name, value in one["figures"].items():
                found.setdefault(name, []).append((one["step"], float(value)))
    scale = {name: points for name, points in found.items() if all(0 <= value <= 1 for _, value in points)}
    return [Curve(name, tuple(points), marked=True) for name, points in (scale or found).items()]


def _dev_table(records: Sequence[Record]) -> dict[str, Any]:
    points = [one for one in records if one["kind"] == "dev"]
    names = list(dict.fromkeys(name for one in points for name in one["figures"]))
    return {"names": names, "rows": [(one["step"], [one["figures"].get(name) for name in names]) for one in points]}


def _config(folder: Path) -> list[tuple[str, str]]:
    """Recipe and provenance, flat: ("warmstart.lr", "0.0005"). What can't be read is left out."""
    import yaml

    rows: list[tuple[str, str]] = []
    for name, read in (("recipe.yaml", yaml.safe_load), ("run.json", json.loads)):
        try:
            value = read((folder / name).read_text("utf-8"))
        except (OSError, yaml.YAMLError, *BAD_DATA):
            continue
        if isinstance(value, Mapping):
            rows += _flat({key: one for key, one in value.items() if key != "recipe"})
    return rows


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield (
                f"{prefix}{key}",
                value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str),
            )
