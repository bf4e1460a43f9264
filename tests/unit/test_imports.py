"""The dependency direction, from the imports in the source; tests/cli/test_cli_help.py measures what really loads."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "prlm_edge"

# Lower layers never import upper ones. A module's layer is that of its longest prefix here.
LAYERS = [
    ("types", "errors", "storage", "settings", "cpu"),
    ("profile", "style", "tasks", "prompt", "ingest"),
    ("retrieve", "backends", "rerank", "models", "gguf"),
    ("writer", "evaluate"),
    ("cli", "server"),
]
TRAINING = {"torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "datasets", "gguf", "optimum"}
# Of export/, what training uses, or what runs without PyTorch.
ON_THE_EDGE = {"adapter.py", "gguf_names.py", "bake.py", "gguf_file.py", "quantize.py", "measure.py"}
# Modules that may be imported at the top of a file. Everything else is imported where it is used.
LIGHT = {"prlm_edge", "typer", "filelock", "platformdirs"}


def layer(module):
    """The layer of `prlm_edge.x.y`; a file beside a package (`profile_lines`, `style_traits`) belongs to its prefix."""
    name = module.removeprefix("prlm_edge.").partition(".")[0]
    for level, prefixes in enumerate(LAYERS):
        if any(name == p or name == p + "s" or name.startswith(p + "_") for p in prefixes):
            return level
    return None


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(path):
    """(imported module, at the top of the file?) of every import that runs; TYPE_CHECKING blocks don't."""
    tree = ast.parse(path.read_text("utf-8"))
    own = module_name(path)

    def visit(node, top):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in node.orelse:
                yield from visit(child, top)
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, top
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{own}: relative import"
            yield node.module, top
            for alias in node.names:  # `from prlm_edge import settings` imports a module too
                if f"{node.module}.{alias.name}" in SOURCES:
                    yield f"{node.module}.{alias.name}", top
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, top and not inside)

    yield from visit(tree, True)


def test_the_table_of_layers_knows_every_module():
    unknown = [name for name in SOURCES if layer(name) is None]
    assert sorted(unknown) == ["prlm_edge", "prlm_edge.__main__"]


@pytest.mark.parametrize("name", SOURCES)
def test_lower_layers_never_import_upper_ones(name):
    own = layer(name)
    if own is None:
        return  # the package itself is lazy, and __main__ is the command line
    for imported, _ in imports(SOURCES[name]):
        if imported.startswith("prlm_edge.") and (other := layer(imported)) is not None:
            assert other <= own, f"{name} imports {imported}"


@pytest.mark.parametrize("name", SOURCES)
def test_training_code_is_reached_only_inside_a_verb(name):
    for imported, top in imports(SOURCES[name]):
        needs_gguf = name.startswith("prlm_edge.gguf.")
        allowed = {"gguf"} if needs_gguf else set()
        assert imported.partition(".")[0] not in TRAINING - allowed, f"{name} imports {imported}"
        if imported.startswith(("prlm_edge.train", "prlm_edge.export")):
            assert name.startswith("prlm_edge.cli."), f"{name} imports {imported}"
            assert not top, f"{name} imports {imported} at the top"


@pytest.mark.parametrize("path", sorted([*(ROOT / "train").glob("*.py"), *(ROOT / "export").glob("*.py")]), ids=str)
def test_training_and_export_stand_on_the_runtime(path):
    """Export stands on training; training hands its adapters over by `export.adapter`, which stands on neither."""
    for imported, _ in imports(path):
        assert not imported.startswith(("prlm_edge.cli", "prlm_edge.server")), f"{path.name} imports {imported}"
        if path.parent.name == "train" and imported.startswith("prlm_edge.export."):
            assert imported.startswith("prlm_edge.gguf.lora"), f"{path.name} imports {imported}"
        if path.parent.name == "export" and path.name in ON_THE_EDGE:
            assert not imported.startswith("prlm_edge.train"), f"{path.name} imports {imported}"


def test_what_everyone_imports_loads_nothing_heavy():
    """Heavy packages are imported in functions, or in modules that only functions import."""
    entries = {
        "prlm_edge",
        "prlm_edge.writer.writer",
        "prlm_edge.profile.store",
        "prlm_edge.retrieve",
        "prlm_edge.backends",
    }
    reached, waiting = set(), entries | {name for name in SOURCES if layer(name) == layer("prlm_edge.cli")}
    while waiting:
        name = waiting.pop()
        reached.add(name)
        for imported, top in imports(SOURCES[name]):
            package = imported.partition(".")[0]
            assert not top or package in LIGHT or package in sys.stdlib_module_names, f"{name} imports {imported}"
            parents = {imported.rpartition(".")[0], imported} & set(SOURCES)
            waiting |= (parents if top else set()) - reached
    assert "prlm_edge.settings" in reached


def test_the_walker_sees_what_it_should(tmp_path, monkeypatch):
    file = tmp_path / "probe.py"
    file.write_text("import a\nif TYPE_CHECKING:\n    import b\nelse:\n    import c\ndef f():\n    from d.e import g\n")
    monkeypatch.setattr("test_imports.ROOT", tmp_path)
    assert list(imports(file)) == [("a", True), ("c", True), ("d.e", False)]
