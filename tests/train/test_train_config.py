"""Recipes: what is checked, what is said where it is wrong."""

from pathlib import Path

import pytest
import yaml

from prlm_edge.errors import ConfigError, UsageError
from prlm_edge.train import config


@pytest.mark.parametrize("name", config.named())
def test_our_recipes_are_sound_and_say_every_key_once(name):
    recipe = config.load(name)
    assert config.Recipe.model_validate(yaml.safe_load(config.dump(recipe))) == recipe


def write(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("warmstart: {learning_rate: 1}", "unknown key warmstart.learning_rate"),
        ("warmstrat: {lr: 1}", "unknown key warmstrat"),
        ("warmstart: {lr: -1}", "warmstart.lr: Input should be greater than 0"),
        ("warmstart: {lr: .nan}", "warmstart.lr"),
        ("base: {precision: int3}", "base.precision"),
        ("warmstart: {eval_steps: 30, save_steps: 25}", "eval_steps must be a multiple of save_steps"),
        ("warmstart: {batch: 8, micro_batch: 3}", "batch must be a multiple of micro_batch"),
        ("data: 3", "data"),
        ("- 1", "no mapping"),
        ("a: [", "not YAML"),
    ],
)
def test_a_wrong_recipe_is_named(tmp_path, text, says):
    with pytest.raises(ConfigError) as error:
        config.load(write(tmp_path, text))
    assert says in error.value.message
    assert "\n" not in error.value.message


def test_the_hint_names_the_nearest_key(tmp_path):
    with pytest.raises(ConfigError) as error:
        config.load(write(tmp_path, "warmstart: {epoch: 1}"))
    assert error.value.hint.startswith("did you mean epochs?")


def test_an_unknown_recipe(tmp_path):
    with pytest.raises(UsageError, match="no recipe") as error:
        config.load("edge_cpu")
    assert error.value.hint.startswith("did you mean edge-cpu?")


def test_overrides_are_stronger_and_typed(tmp_path):
    path = write(tmp_path, "warmstart: {lr: 1.0e-3}\ndata: {files: [a.jsonl]}")
    recipe = config.load(path, ["warmstart.lr=1e-4", "lora.target_modules=[q_proj]"], {"data.k": 2, "seed": None})
    assert recipe.warmstart.lr == 1e-4
    assert recipe.lora.target_modules == ("q_proj",)
    assert recipe.data.k == 2 and recipe.seed == 0
    assert recipe.data.files[0].path == str(tmp_path / "a.jsonl")  # named from where the recipe lies


MIXED = {"path": "b.jsonl", "limit": 3, "ask": ["short", "text"]}


def test_a_file_of_a_mixture_may_say_what_differs(tmp_path, monkeypatch):
    """And a recipe written elsewhere still names the same files."""
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, f"data: {{files: [a.jsonl, {MIXED}]}}")
    recipe = config.load(path, root=Path("sets"))
    plain, mixed = recipe.data.files
    assert plain == config.DataFile(path="sets/a.jsonl")
    assert mixed == config.DataFile(**MIXED | {"path": "sets/b.jsonl"})
    values = recipe.model_dump(mode="json")["data"]["files"]
    assert values == ["sets/a.jsonl", MIXED | {"path": "sets/b.jsonl"}]  # as it is written, and compared with a run's
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text(config.dump(recipe, Path("run")))
    assert config.load("run/recipe.yaml") == recipe
    for wrong in ({**MIXED, "asks": 1}, {"limit": 1}, {"path": "b.jsonl", "limit": 0}):
        with pytest.raises(ConfigError, match=r"data\.files\.0\."):
            config.load(write(tmp_path, f"data: {{files: [{wrong}]}}"))


@pytest.mark.parametrize("override", ["warmstart.lr", "warmstart.lr.x=1", "nothing.x=1"])
def test_a_wrong_override_is_an_error(tmp_path, override):
    with pytest.raises(UsageError):
        config.load(write(tmp_path, "warmstart: {lr: 1.0e-3}"), [override])


def test_fingerprints_differ_by_any_value():
    one = config.load("edge-cpu")
    assert one.fingerprint() == config.load("edge-cpu").fingerprint()
    assert one.fingerprint() != config.load("edge-cpu", ["lora.dropout=0.1"]).fingerprint()
