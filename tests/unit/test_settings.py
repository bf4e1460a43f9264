"""Settings: which source wins, what is refused, and that the refusal names the place and the remedy."""

from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_edge import settings
from prlm_edge.errors import ConfigError, UsageError
from prlm_edge.settings import KEYS, Settings, load_settings, override


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PRLM_HOME", str(tmp_path / "home"))
    return tmp_path


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refused(**kwargs) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_settings(**{"env": {}, **kwargs})
    assert caught.value.exit_code == 2
    assert "\n" not in caught.value.message + caught.value.hint
    return caught.value


def test_defaults_stand_for_themselves():
    found = load_settings(env={})
    assert found == Settings()
    assert set(found.origins.values()) == {"default"}


def test_every_key_is_described_and_every_default_is_allowed():
    names = [f.name for f in fields(Settings) if f.name != "origins"]
    assert list(KEYS) == names
    for name in names:
        default = settings.DEFAULTS[name]
        assert KEYS[name].about
        if default is None:
            assert KEYS[name].optional
        else:
            assert settings.check(name, default, name) == default


def test_one_request_may_change_what_the_table_says():
    base = load_settings(env={})
    assert override(base, {"k": 5, "seed": None, "temperature": 1}) == replace(base, k=5, temperature=1.0)
    scorer = SimpleNamespace(score=None)
    assert override(base, {"select": scorer}) == base
    for options, message, hint in [
        ({"modle": "x"}, "'modle' can't be set for one request", "these can: task, retriever, k,"),
        ({"model": "x"}, "'model' can't be set for one request", "these can: "),
        ({"temprature": 1}, "'temprature' can't be set", "did you mean temperature?"),
        ({"k": scorer}, "is not a whole number", "at least 1"),
    ]:
        with pytest.raises(UsageError) as caught:
            override(base, options)
        assert message in caught.value.message
        assert hint in caught.value.hint


def test_the_choices_are_those_of_the_layers_above():
    from typing import get_args

    from prlm_edge.retrieve import RETRIEVERS
    from prlm_edge.tasks import load_tasks
    from prlm_edge.types import Reasoning

    assert KEYS["retriever"].choices == RETRIEVERS
    assert KEYS["reasoning"].choices == get_args(Reasoning)
    assert settings.DEFAULTS["task"] in load_tasks()


def test_each_source_beats_the_one_before(home):
    write(settings.config_path(), "k = 5\nseed = 5\ntop_k = 5\nthreads = 5\n")
    extra = write(home / "extra.toml", "seed = 6\ntop_k = 6\nthreads = 6\n")
    found = load_settings(
        config=extra, env={"PRLM_TOP_K": "7", "PRLM_THREADS": "7"}, flags={"threads": 8, "model": None}
    )
    assert (found.n_ctx, found.k, found.seed, found.top_k, found.threads) == (0, 5, 6, 7, 8)
    origins = [found.origins[key] for key in ("n_ctx", "k", "seed", "top_k", "threads", "model")]
    assert origins == ["default", str(settings.config_path()), str(extra), "PRLM_TOP_K", "flag", "default"]


def test_the_process_environment_is_read_by_default(monkeypatch):
    monkeypatch.setenv("PRLM_K", "3")
    assert load_settings().k == 3


def test_other_variables_are_left_alone():
    env = {"PRLM_HOME": "/x", "PRLM_DEBUG": "1", "PATH": "/bin", "_PRLM_EDGE_COMPLETE": "x", "PRLM_K": ""}
    assert load_settings(env=env) == Settings()


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("modle = 'x'", "unknown setting 'modle'", "did you mean model?"),
        ("zzzz = 1", "unknown setting 'zzzz'", "config show"),
        ("k = 'four'", "k: 'four' is not a whole number", "at least 1"),
        ("k = true", "k: True is not a whole number", "at least 1"),
        ("k = 4.0", "k: 4.0 is not a whole number", "at least 1"),
        ("k = 0", "k: 0 is out of range", "retriever none"),
        ("model = 3", "model: 3 is not text", ""),
        ("model = ''", "model: may not be empty", "model list"),
        ("retriever = 'bm52'", "retriever can't be 'bm52'", "did you mean bm25?"),
        ("retriever = 'zz'", "retriever can't be 'zz'", "none, bm25, dense, hybrid, recency, random"),
        ("layout = 'Turns'", "layout can't be 'Turns'", "turns, block"),
        ("reasoning = false", "reasoning: False is not text", "show, hide, off"),
        ("temperature = -0.1", "temperature: -0.1 is out of range", "at least 0"),
        ("temperature = nan", "temperature: nan is out of range", "at least 0"),
        ("temperature = inf", "temperature: inf is out of range", "at most 10"),
        ("top_p = 1.5", "top_p: 1.5 is out of range", "at most 1"),
        ("seed = 4294967296", "seed: 4294967296 is out of range", "at most 4294967295"),
        ("base_url = 'localhost:8080'", "'localhost:8080' is not a URL", "http://"),
        ("base_url = 'http://me:pw@localhost'", "holds a name or password", "PRLM_API_KEY"),
        ("[model]\nname = 'x'", "model: {'name': 'x'} is not text", ""),
        ("k = [4]", "k: [4] is not a whole number", ""),
        ("k 4", "not valid TOML", "model ="),
        (b"\xff\xfe", "not UTF-8", "UTF-8"),
        (b"k = 4\x00", "not valid TOML", ""),
    ],
)
def test_a_bad_file_is_named_with_what_is_allowed(text, message, hint):
    write(settings.config_path(), text)
    error = refused()
    assert str(settings.config_path()) in error.message
    assert message in error.message
    assert hint in error.hint


def test_a_config_file_that_is_asked_for_must_exist(home):
    assert "no such file" in refused(config=home / "absent.toml").message
    assert "is a folder" in refused(config=home).message


def test_a_byte_order_mark_is_no_error():
    write(settings.config_path(), b"\xef\xbb\xbfk = 9\n")
    assert load_settings(env={}).k == 9


@pytest.mark.parametrize(
    ("env", "message", "hint"),
    [
        ({"PRLM_MODLE": "x"}, "environment variable PRLM_MODLE is no setting", "did you mean PRLM_MODEL?"),
        ({"PRLM_K": "many"}, "PRLM_K: 'many' is not a whole number", "at least 1"),
        ({"PRLM_K": "0"}, "PRLM_K: 0 is out of range", "at least 1"),
        ({"PRLM_TEMPERATURE": "warm"}, "PRLM_TEMPERATURE: 'warm' is not a number", "at least 0"),
        ({"PRLM_REASONING": "on"}, "PRLM_REASONING: reasoning can't be 'on'", "show, hide, off"),
    ],
)
def test_a_bad_variable_is_named(env, message, hint):
    error = refused(env=env)
    assert message in error.message
    assert hint in error.hint


def test_a_bad_flag_is_named_as_typed():
    assert "--answer-tokens: 0 is out of range" in refused(flags={"answer_tokens": 0}).message
    assert "unknown setting 'modle'" in refused(flags={"modle": "x"}).message


def test_paths_in_a_file_are_relative_to_that_file(home, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    file = write(home / "elsewhere" / "my.toml", "user = 'me.jsonl'\ntasks_dir = '~/tasks'\n")
    found = load_settings(config=file, env={})
    assert found.user == str(home.resolve() / "elsewhere" / "me.jsonl")
    assert found.tasks_dir == "/home/ada/tasks"
    assert load_settings(env={"PRLM_USER": "me.jsonl"}).user == "me.jsonl"
    assert load_settings(flags={"user": Path("a/b.jsonl")}, env={}).user == "a/b.jsonl"


def test_an_empty_optional_text_means_not_set():
    write(settings.config_path(), "user = ''\n")
    assert load_settings(env={}).user is None


def test_a_whole_number_is_a_number():
    found = load_settings(flags={"temperature": 1}, env={}).temperature
    assert found == 1.0
    assert isinstance(found, float)


def test_the_key_of_a_server_is_not_in_the_repr():
    assert "hunter2" not in repr(load_settings(env={"PRLM_API_KEY": "hunter2"}))


@given(
    st.dictionaries(
        st.sampled_from(["PRLM_" + key.upper() for key in KEYS] + ["PRLM_X"]), st.text(max_size=8), max_size=4
    )
)
def test_any_environment_gives_settings_or_a_clear_error(env):
    try:
        found = load_settings(env=env)
    except ConfigError as error:
        assert any(name in error.message for name in env)
    else:
        for key in KEYS:
            value = getattr(found, key)
            assert value is None or settings.check(key, value, key) == value
