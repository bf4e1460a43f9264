"""The order of the packages, from the imports in the source; tests/cli/test_cli_help.py measures what really loads."""

import ast
import graphlib
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Every file or folder of prlm_edge/ imports from those that stand before it here, never from those behind it.
ORDER = [
    *("errors", "types", "cpu", "storage", "settings", "style", "tasks"),
    *("profile", "prompt", "models", "gguf"),
    *("retrieve", "backends", "rerank", "ingest"),
    *("feedback", "writer", "evaluate"),
    *("train", "export"),
    *("cli", "__main__"),
]
TRAINING = {"torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "datasets", "optimum"}
FILES_OF_TRAINING = {"gguf", "safetensors"}  # imported in prlm_edge/gguf alone
LIGHT = {"prlm_edge", "typer", "filelock", "platformdirs"}  # besides Python's own, what may load at start-up


def name_of(path):
    """The module's name as installed."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    return name if name.startswith("prlm_edge") else f"prlm_edge.{name}"


# rglob leaves out the links prlm_edge/train and prlm_edge/export.
SOURCES = {name_of(path): path for top in ("prlm_edge", "train", "export") for path in (ROOT / top).rglob("*.py")}


def imports(text):
    """(imported module, at the top of the file?) of every import that runs; TYPE_CHECKING blocks don't."""

    def visit(node, top):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in node.orelse:
                yield from visit(child, top)
            return
        if isinstance(node, ast.Import):
            yield from ((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import in line {node.lineno}"
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                yield (module if module in SOURCES else node.module), top
        top = top and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, top)

    return list(visit(ast.parse(text), True))


IMPORTS = {name: imports(path.read_text("utf-8")) for name, path in SOURCES.items()}


def room(module):
    """`backends` of `prlm_edge.backends.llama`; "" of prlm_edge itself and of other packages."""
    return [*module.split("."), ""][1] if module.startswith("prlm_edge") else ""


def faults(name, imported, top):
    """What is wrong with one import of the module `name`."""
    own, other, package = room(name), room(imported), imported.partition(".")[0]
    if other and (own == "" or ORDER.index(other) > ORDER.index(own)):
        yield "which stands above it"
    if {"train", "export"} & {other} - {own} and own != "export" and top:
        yield "at the top: every verb would load that"
    if package in TRAINING and own not in ("train", "export"):
        yield "which comes with training alone"
    if package in FILES_OF_TRAINING and own not in ("train", "export", "gguf"):
        yield "which prlm_edge/gguf alone may"


def test_modules_import_only_from_lower_ones():
    every = ((name, imported, top) for name in SOURCES for imported, top in IMPORTS[name])
    assert [f"{one[0]} imports {one[1]}, {fault}" for one in every for fault in faults(*one)] == []


def test_no_circle_of_imports():
    """Imports in functions count: they hide a circle, and don't break it."""
    graph = {name: {one for one, _ in IMPORTS[name] if one in SOURCES} - {name} for name in SOURCES}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail("a circle of imports: " + " -> ".join(reversed(error.args[1])))


def test_no_private_module_or_name_of_a_dependency():
    private = re.compile(
        r"^\s*(?:(?:from|import) (?!prlm_edge)\w[\w.]*\._|from (?!prlm_edge)[\w.]+ import .*\b_\w)", re.M
    )
    assert not [name for name, path in SOURCES.items() if private.search(path.read_text("utf-8"))]


def test_what_everyone_imports_loads_nothing_heavy():
    """Heavy packages are imported in functions, or in modules that only functions import."""
    entries = {"prlm_edge", "prlm_edge.writer", "prlm_edge.profile", "prlm_edge.retrieve", "prlm_edge.backends"}
    reached, waiting = set(), entries | {name for name in SOURCES if room(name) == "cli"}
    while waiting:
        name = waiting.pop()
        reached.add(name)
        for imported, top in IMPORTS[name]:
            package = imported.partition(".")[0]
            assert not top or package in LIGHT or package in sys.stdlib_module_names, f"{name} imports {imported}"
            parents = {imported.rpartition(".")[0], imported} & set(SOURCES)
            waiting |= (parents if top else set()) - reached
    assert "prlm_edge.settings" in reached


def test_every_folder_is_packaged():
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert sorted(packages) == sorted(name for name, path in SOURCES.items() if path.name == "__init__.py")


def test_the_walker_sees_what_it_should():
    text = "import a\nif TYPE_CHECKING:\n    import b\nelse:\n    import c\ndef f():\n    from d.e import g\n"
    assert imports(text) == [("a", True), ("c", True), ("d.e", False)]


@pytest.mark.parametrize(
    ("name", "imported", "top"),
    [
        ("prlm_edge.types", "prlm_edge.cli", False),
        ("prlm_edge.train.base", "prlm_edge.export.source", False),
        ("prlm_edge.cli.model", "prlm_edge.export.source", True),
        ("prlm_edge.cli.model", "torch", False),
        ("prlm_edge.backends", "gguf", False),
    ],
)
def test_each_rule_finds_its_fault(name, imported, top):
    assert len(list(faults(name, imported, top))) == 1
