"""`prlm-edge export`: what was trained, as files that a laptop loads, each compared with the trained model first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prlm_edge.cli.shared import console
from prlm_edge.cli.shared.interrupt import end_in_order
from prlm_edge.cli.shared.options import JsonFlag, adds, new_app
from prlm_edge.cli.shared.table import PROG, VERBS
from prlm_edge.errors import MissingError, ModelError, UsageError

if TYPE_CHECKING:
    from prlm_edge.export.pipeline import Exported
    from prlm_edge.export.source import Trained, Wanted

app = new_app(help=VERBS["export"], no_args_is_help=True)
_NEEDED = ("torch", "transformers", "peft", "gguf")

OutOption = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The folder to write.")]


@dataclass(frozen=True)
class _Asked:
    """What is exported, under what name, and compared on which data: options of every format."""

    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A training run that has ended, or an adapter's folder or file.")
    ]
    out: OutOption
    name: Annotated[str | None, typer.Option("--name", help="The model's name; by default the folder's.")] = None
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", "-d", help="Data to compare on; by default what the run learned from."),
    ] = None
    limit: Annotated[int, typer.Option("--limit", min=1, help="Users of each file.")] = 60
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="The base, where no run names it: a name, a GGUF file, a folder."),
    ] = None
    licence: Annotated[str, typer.Option("--licence", help="SPDX identifier of the result.")] = "Apache-2.0"
    attribution: Annotated[
        Path | None,
        typer.Option("--attribution", metavar="FILE", help="Markdown for the model card: whose texts they were."),
    ] = None
    json: JsonFlag = False

    def open(self, quant: str, known: Sequence[str]) -> tuple[Trained, Wanted]:
        """The trained model, and what to make of it. Wrong options are refused before PyTorch is loaded."""
        from prlm_edge.export.source import Wanted, open_source
        from prlm_edge.train.config import DataFile

        if quant not in known:
            raise UsageError(f"unknown format {quant!r}", f"there are {', '.join(known)}")
        if not self.run.is_dir() and not self.run.is_file():
            raise UsageError(f"{self.run}: no such folder", "name a training run that has ended")
        try:
            attribution = self.attribution.read_text("utf-8") if self.attribution is not None else ""
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "not UTF-8"
            raise UsageError(f"{self.attribution}: {why}", "name a Markdown file") from None
        source = open_source(self.run, model=self.model)
        given = tuple(DataFile(path=str(path)) for path in self.data or ())
        files = given or source.recipe.data.dev_files or source.recipe.data.files
        name = self.name or self.out.name
        return source, Wanted(self.out, name, quant, files, self.limit, self.licence, attribution)


@app.callback(help=VERBS["export"])
def main() -> None:
    """Refuse to begin without the packages."""
    missing = [name for name in _NEEDED if not find_spec(name)]
    if missing:
        raise MissingError(f"export needs {', '.join(missing)}", 'pip install "prlm-edge[train,export]"')
    console.hush_libraries()


@app.command()
@adds("asked", _Asked)
def gguf(
    quant: Annotated[
        str,
        typer.Option("--quant", metavar="FORMAT", help="f16, q8_0, q5_k_m, q4_k_m, q4_0, or auto: measure and choose."),
    ] = "auto",
    max_kl: Annotated[
        float | None, typer.Option("--max-kl", min=0, help="What auto allows, in nats a token.", show_default="0.02")
    ] = None,
    rouge_users: Annotated[
        int | None,
        typer.Option(
            "--rouge-users",
            min=0,
            help="Users whom auto answers with each format, to compare ROUGE; 0 for none.",
            show_default="30",
        ),
    ] = None,
    *,
    asked: _Asked,
) -> None:
    """Merge the adapter into its base and quantize: one GGUF file.

    Each stage is kept, so that the same command goes on where it was stopped. The file is compared with the trained
    model before it is published, within bounds that depend on the format; one that differs too much is kept as
    DIR.failed with its report.
    """
    from prlm_edge.export.gguf.quantize import FTYPES

    auto: dict[str, Any] = {
        key: value for key, value in (("max_kl", max_kl), ("rouge_users", rouge_users)) if value is not None
    }
    if auto and quant != "auto":
        raise UsageError("--max-kl and --rouge-users are of --quant auto alone", "leave them out")
    source, wanted = asked.open(quant, ("auto", *FTYPES))
    from prlm_edge.export.to_gguf import export_gguf

    wanted = replace(wanted, **auto)
    _say(export_gguf(source, wanted, _stage), wanted, json=asked.json)


@app.command()
@adds("asked", _Asked)
def adapter(asked: _Asked) -> None:
    """Write the adapter alone as a LoRA-GGUF: swapped without loading the base again, one for each task or user."""
    source, wanted = asked.open("f16", ("f16",))
    from prlm_edge.export.to_adapter import export_adapter

    _say(export_adapter(source, wanted, _stage), wanted, json=asked.json)


@app.command()
@adds("asked", _Asked)
def onnx(
    quant: Annotated[str, typer.Option("--quant", metavar="FORMAT", help="int8, int4 or f32.")] = "int8",
    *,
    asked: _Asked,
) -> None:
    """Merge the adapter into its base and write it in ONNX format, with a KV cache, for ONNX Runtime.

    Stages are kept, and the result is compared and published, as by `export gguf`.
    """
    from prlm_edge.export.onnx.model import FORMATS

    source, wanted = asked.open(quant, tuple(FORMATS))
    from prlm_edge.export.to_onnx import export_onnx

    _say(export_onnx(source, wanted, _stage), wanted, json=asked.json)


@app.command()
def embedder(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A sentence encoder's Hugging Face folder.")],
    out: OutOption,
    json: JsonFlag = False,
) -> None:
    """Write a sentence encoder as int8 ONNX, by Optimum, for dense and hybrid retrieval.

    Optimum is installed into a folder of the cache at the first call, for it needs an older Transformers than training.
    """
    from prlm_edge.export.onnx.optimum_env import export_encoder

    with _stage("exporting by Optimum"):
        cosine = export_encoder(folder, out)
    if json:
        console.emit_json({"path": str(out), "smallest_cosine": cosine})
        return
    console.note(f"its vectors are PyTorch's: smallest cosine {cosine:.4f}")
    console.out(str(out))


@contextmanager
def _stage(label: str) -> Iterator[None]:
    """Say which stage begins; most take seconds, and none can tell how far it is."""
    console.note(f"{label} ...")
    with end_in_order():
        yield


def _say(done: Exported, wanted: Wanted, *, json: bool) -> None:
    from prlm_edge.export.folder import card

    if json:
        console.emit_json({"path": str(done.folder), "quant": done.quant, "table": done.table, **done.report.as_dict()})
    else:
        if done.table:
            header, *rows = card.formats(done.table)
            console.table([[key.upper() for key in header], *rows], right=range(1, len(header)))
            console.out()
        console.table(
            [["CHECK", "", "FOUND"], *([c.name, "ok" if c.ok else "FAILED", c.said] for c in done.report.checks)]
        )
    if not done.report.ok:
        first = next(check for check in done.report.checks if not check.ok)
        raise ModelError(
            f"{wanted.name} does not say what the trained model says: {first.name}: {first.said}",
            f"it was not published; {done.folder} holds it with its report",
        )
    if not json:
        console.note(f"published; {PROG} model install {done.folder}")
        console.out(str(done.folder))
