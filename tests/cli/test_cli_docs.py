"""docs/cli.md is what the help says; `make docs` renews it."""

from pathlib import Path

from prlm_edge.cli.shared import docs as _docs
from prlm_edge.cli.shared import table as _table
from prlm_edge.settings import KEYS

FILE = Path(__file__).parents[2] / "docs" / "cli.md"


def test_docs_are_up_to_date():
    assert FILE.read_text("utf-8") == _docs.pages(), "run `make docs`"


def test_every_verb_and_setting_is_there():
    text = _docs.pages()
    for verb in _table.VERBS:
        assert f"\n## prlm-edge {verb}\n" in text
        assert f"Usage: prlm-edge {verb} " in text
    for key in KEYS:
        assert f"\n| `{key}` |" in text


def test_docs_do_not_depend_on_the_terminal(monkeypatch):
    wide = _docs.pages()
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    assert _docs.pages() == wide
