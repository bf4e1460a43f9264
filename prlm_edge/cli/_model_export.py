"""`prlm-edge model install` and `model bake`: models made here. Not here: making them (`prlm_edge.export`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prlm_edge.cli.shared import console as _console
from prlm_edge.cli.shared.options import JsonFlag
from prlm_edge.errors import UsageError


def install(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `prlm-edge export` wrote.")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Install it under this name.")] = "",
    json: JsonFlag = False,
) -> None:
    """Install an export under its name: `generate --model NAME`.

    Every file is held to the hash that was verified; an earlier export of that name gives way.
    """
    from prlm_edge import models
    from prlm_edge.models.install import install as install_

    manifest = install_(folder, name)
    path = models.find(manifest.name).folder
    if json:
        files = [{"name": f.name, "size": f.size, "sha256": f.sha256} for f in manifest.files]
        _console.emit_json({"name": manifest.name, "kind": manifest.kind, "path": str(path), "files": files})
        return
    option = "--adapter" if manifest.kind == "adapter" else "--model"
    _console.note(f"installed; prlm-edge generate {option} {manifest.name} ...")
    _console.out(str(path))


def bake(
    base: Annotated[str, typer.Argument(metavar="BASE", help="A model's name or GGUF file.")],
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER.gguf", help="A LoRA adapter of that model.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE.gguf", help="The file to write.")],
    quant: Annotated[
        str | None, typer.Option("--quant", metavar="FORMAT", help="Such as q8_0 or q4_0; by default the base's own.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    json: JsonFlag = False,
) -> None:
    """Merge an adapter into its model: one file, and the speed of a model without an adapter. Needs no PyTorch."""
    from prlm_edge import models

    if out.exists() and not force:
        raise UsageError(f"{out}: there already", "choose another --out, or add --force")
    from prlm_edge.export.gguf.bake import bake as bake_

    path = models.resolve(base, original=True)
    with _console.progress("merging", unit="steps", at_once=True):
        bake_(path, adapter, out, quant)
    if json:
        _console.emit_json({"path": str(out), "size": out.stat().st_size, "sha256": models.sha256_of(out)})
    else:
        _console.out(str(out))


def register(app: typer.Typer) -> None:
    """Both as verbs of `prlm-edge model`."""
    app.command()(install)
    app.command()(bake)
