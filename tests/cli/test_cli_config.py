"""`prlm-edge config` through the real command line, in-process."""

import json
import tomllib
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_edge import settings
from prlm_edge.cli import config
from prlm_edge.cli.shared import toml_edit
from prlm_edge.errors import ConfigError


@pytest.fixture
def run(cli):
    return partial(cli, "config")


def file():
    return settings.config_path()


def written(text):
    file().parent.mkdir(parents=True, exist_ok=True)
    file().write_bytes(text.encode())


def test_show_names_every_origin(run, tmp_path, monkeypatch):
    written("k = 7\n")
    (tmp_path / "more.toml").write_text("seed = 3\n")
    monkeypatch.setenv("PRLM_LAYOUT", "block")
    code, out, _ = run("show", "--config", "more.toml")
    lines = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert code == 0
    assert list(lines) == list(settings.KEYS)
    assert lines["k"] == ["7", str(file())]
    assert lines["seed"] == ["3", "more.toml"]
    assert lines["layout"] == ['"block"', "PRLM_LAYOUT"]
    assert lines["model"] == ['"auto"', "default"]
    assert lines["user"] == ["-", "default"]


def test_show_json(run, monkeypatch):
    monkeypatch.setenv("PRLM_TEMPERATURE", "0.7")
    code, out, _ = run("show", "--json")
    found = json.loads(out)
    assert code == 0
    assert list(found) == list(settings.KEYS)
    assert found["temperature"] == {"value": 0.7, "origin": "PRLM_TEMPERATURE"}
    assert found["user"] == {"value": None, "origin": "default"}


def test_a_server_key_is_never_shown(run, monkeypatch):
    monkeypatch.setenv("PRLM_API_KEY", "hunter2")
    for args in (["show"], ["show", "--json"]):
        _, out, err = run(*args)
        assert "hunter2" not in out + err
        assert config.SECRET in out
    monkeypatch.delenv("PRLM_API_KEY")
    _, out, err = run("set", "api_key", "hunter2")
    assert "hunter2" not in out + err
    assert tomllib.loads(file().read_text())["api_key"] == "hunter2"


def test_path_is_data_on_stdout(run):
    assert run("path") == (0, f"{file()}\n", "")


def test_set_then_show_then_unset(run):
    assert run("set", "k", "6")[0] == 0
    assert tomllib.loads(file().read_text()) == {"k": 6}
    assert file().stat().st_mode & 0o777 == 0o600
    assert run("set", "k", "8")[0] == 0
    assert settings.load_settings().k == 8
    assert run("unset", "k")[0] == 0
    assert settings.load_settings().k is None
    code, _, err = run("unset", "k")
    assert code == 0
    assert "is not set" in err


COMMENTED = """# my settings

k = 6   # six is plenty
model = "a # b"# odd
  seed=1

[later]
"""


def test_set_keeps_every_comment_and_the_other_lines(run):
    text = COMMENTED.replace("[later]\n", "")
    written(text)
    assert run("set", "k", "9")[0] == 0
    assert run("set", "seed", "2")[0] == 0
    assert run("set", "model", 'he said "x"')[0] == 0
    expected = text.replace("k = 6   #", "k = 9   #").replace("seed=1", "seed = 2")
    assert file().read_text() == expected.replace('"a # b"#', r'"he said \"x\""#')


def test_unset_keeps_the_comment_behind_the_value(run):
    written("k = 6   # six is plenty\nseed = 1\n")
    assert run("unset", "k")[0] == 0
    assert file().read_text() == "# six is plenty\nseed = 1\n"


def test_windows_line_ends_stay(run):
    written("k = 6\r\nseed = 1\r\n")
    assert run("set", "k", "7")[0] == 0
    assert file().read_bytes() == b"k = 7\r\nseed = 1\r\n"


def test_a_missing_last_line_break_joins_no_lines(run):
    written("k = 6")
    assert run("set", "seed", "1")[0] == 0
    assert tomllib.loads(file().read_text()) == {"k": 6, "seed": 1}


@pytest.mark.parametrize("text", ['model = """a\nb"""\n', '"model" = "x"\n', "model = '''\nk = 3\n'''\n"])
def test_what_the_editor_does_not_understand_is_refused_and_untouched(run, text):
    written(text)
    code, _, err = run("set", "model", "y")
    assert code == 2
    assert "edit that line by hand" in err
    assert file().read_text() == text
    assert list(file().parent.glob("*.tmp")) == []


def test_a_key_inside_a_multi_line_string_is_not_a_key(run):
    written('model = """\nk = 3\n"""\n')
    code, _, _ = run("set", "k", "5")
    found = tomllib.loads(file().read_text())
    assert found["model"] == "k = 3\n"
    assert code == 2 or found["k"] == 5


def test_set_checks_before_it_writes(run):
    for key, value, hint in [
        ("k", "0", "retriever none"),
        ("k", "x", "whole number"),
        ("k", "-1", "at least 1"),
        ("retriever", "dens", "dense"),
        ("modle", "x", "did you mean model?"),
        ("user", "", "config unset user"),
    ]:
        code, out, err = run("set", key, value)
        assert (code, out) == (2, "")
        assert hint in err
    assert not file().exists()


def test_set_stores_a_relative_file_name_as_an_absolute_one(run, tmp_path):
    run("set", "user", "me.jsonl")
    run("set", "model", "some.gguf")
    found = tomllib.loads(file().read_text())
    assert found == {"user": str(tmp_path / "me.jsonl"), "model": str(tmp_path / "some.gguf")}


def test_set_says_when_the_environment_is_stronger(run, monkeypatch):
    monkeypatch.setenv("PRLM_K", "3")
    assert "PRLM_K in the environment is stronger" in run("set", "k", "5")[2]


def test_a_broken_file_is_never_rewritten(run):
    written("k = = 6\n")
    for args in (["set", "k", "5"], ["unset", "k"], ["show"]):
        code, _, err = run(*args)
        assert code == 2
        assert "not valid TOML" in err
        assert "line 1" in err
    assert file().read_text() == "k = = 6\n"


def test_init_writes_a_file_in_which_every_line_can_be_uncommented(run):
    assert run("init")[0] == 0
    text = file().read_text()
    assert settings.load_settings() == settings.Settings()
    live = "\n".join(line[2:] for line in text.splitlines() if " = " in line and line.startswith("# "))
    keys = [line.split(" = ")[0] for line in live.splitlines()]
    assert keys == list(settings.KEYS)
    file().write_text(live)
    assert settings.load_settings().reasoning_tokens == 64


def test_init_overwrites_nothing(run):
    written("k = 6 # mine\n")
    code, _, err = run("init")
    assert code == 2
    assert "exists already" in err
    assert file().read_text() == "k = 6 # mine\n"


def test_set_after_init_lands_below_its_explanation(run):
    run("init")
    run("set", "k", "6")
    lines = file().read_text().splitlines()
    assert lines[lines.index("k = 6") - 1] == "# k = 3"


def test_an_unwritable_place_is_one_line(run, tmp_path, monkeypatch):
    blocker = tmp_path / "blocker"
    blocker.write_text("a file")
    monkeypatch.setenv("PRLM_HOME", str(blocker))
    code, _, err = run("set", "k", "6")
    assert code == 1
    assert err.startswith(f"prlm-edge: {blocker}/config: Not a directory\n")
    assert blocker.read_text() == "a file"


def test_no_subcommand_prints_help_and_fails(run):
    code, out, err = run()
    assert (code, out) == (2, "")
    assert "Usage: prlm-edge config" in err


lines = st.lists(
    st.sampled_from(
        ["k = 1", "k=2 # c", "# k = 3", "", "seed = 4", 'model = "x # y"', "  top_k = 1_000", "# note", "[t]", "k2 = 1"]
    ),
    max_size=6,
)


@given(lines, st.sampled_from(["k", "seed", "model"]), st.text(max_size=20))
def test_an_edit_changes_one_key_or_nothing(lines, key, text):
    before = "\n".join(lines) + "\n"
    value = text.encode("utf-8", "replace").decode() if key == "model" else len(text)
    try:
        parsed = tomllib.loads(before)
    except tomllib.TOMLDecodeError:
        return
    try:
        after = toml_edit.set_key(before, key, value)
    except ConfigError:
        return
    assert tomllib.loads(after) == {**parsed, key: value}
    assert [c for c in lines if c.startswith("#")] == [c for c in after.split("\n") if c.startswith("#")]
    removed = toml_edit.unset_key(after, key)
    assert tomllib.loads(removed) == {name: old for name, old in parsed.items() if name != key}
