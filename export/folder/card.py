"""The model card of an export: `README.md`, written from its manifest and from nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_USE = {
    "llm": 'prlm-edge model install DIR\nprlm-edge generate --model {name} --user me.jsonl "title for ..."',
    "onnx-llm": 'prlm-edge model install DIR\nprlm-edge generate --model {name} --user me.jsonl "title for ..."',
    "adapter": 'prlm-edge generate --adapter DIR/{file} --user me.jsonl "title for ..."',
}


def write_card(manifest: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    largest = max(manifest["files"], key=lambda one: int(one["size"]))
    use = _USE[manifest["kind"]].format(name=manifest["name"], file=largest["name"])
    parts = [
        f"# {manifest['name']}",
        f"Writes titles, subjects and other short texts in a user's own voice: {manifest['base']['name']}, trained by "
        f"prlm-edge, as {manifest['format']}. "
        + ("It reasons over past writing before it answers." if manifest["reasons"] else "It answers at once.")
        + (f" Trained for: {', '.join(manifest['tasks'])}." if manifest["tasks"] else ""),
        f"```\n{use}\n```",
        "## Verification",
        "Held to the trained model in PyTorch, on prompts as in use.",
        _table(
            ("check", "passed", "found"),
            [
                (one["name"], "yes" if one["ok"] else "**no**", one["said"])
                for one in manifest["verification"]["checks"]
            ],
        ),
    ]
    if manifest["table"]:
        header, *rows = formats(manifest["table"])
        parts += ["## Formats", "Measured in one run on one machine.", _table(header, rows)]
    parts += ["## Where it comes from", _table(("what", "which"), _origins(manifest))]
    if manifest["attribution"]:
        parts += ["## Attribution", str(manifest["attribution"]).strip()]
    return "\n\n".join(parts) + "\n"


def formats(table: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The formats that were measured, as cells for people; the header first."""
    keys = list(table[0])
    return [keys, *([_figure(row.get(key)) for key in keys] for row in table)]


def _origins(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    recipe, merge = manifest["recipe"], manifest["merge"]
    rows = [
        ("base", f"{manifest['base']['name']}, sha256 {manifest['base']['sha256'][:16]}"),
        ("adapter", f"sha256 {manifest['adapter']['sha256'][:16]}"),
        (
            "recipe",
            f"{recipe['fingerprint']}, seed {recipe['seed']}, stages {', '.join(recipe['stages']) or 'unknown'}",
        ),
        *(("data", f"{name}, sha256 {sha256[:16]}") for name, sha256 in manifest["data"].items()),
        ("merged into", ", ".join(f"{key} {_figure(value)}" for key, value in merge.items())),
        ("chat template", f"sha256 {manifest['template'][:16]}"),
        ("files", ", ".join(f"{one['name']} ({one['size'] / 1e6:.1f} MB)" for one in manifest["files"])),
        ("versions", ", ".join(f"{name} {number}" for name, number in manifest["versions"].items())),
        ("licence", manifest["licence"]),
        ("created", manifest["created"]),
    ]
    return [(what, which) for what, which in rows if which]


def _figure(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return "\n".join(lines + [f"| {' | '.join(str(cell).replace('|', '/') for cell in row)} |" for row in rows])
