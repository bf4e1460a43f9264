"""Conditions from flags and from YAML: products, names, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from prlm_edge.errors import ConfigError, UsageError
from prlm_edge.evaluate.conditions import baselines, make, product, read_experiment, settings_of, unique


def plan(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    return path


def test_a_product_names_what_varies() -> None:
    found = product({"k": [1, 4], "retriever": ["bm25"], "reasoning": ["off", "hide"]})
    assert [one.name for one in found] == [
        "k=1 reasoning=off",
        "k=1 reasoning=hide",
        "k=4 reasoning=off",
        "k=4 reasoning=hide",
    ]
    assert found[3].settings == {"k": 4, "retriever": "bm25", "reasoning": "hide"}
    assert product({})[0].name == "default"


def test_a_plan(tmp_path: Path) -> None:
    found = read_experiment(
        plan(
            tmp_path,
            "seed: 3\nlimit: 20\nsettings: {reasoning: off, k: 2}\nconditions:\n  first: {baseline: first_sentence}\n"
            "  zero: {profile: none}\n  plain:\ngrid: {k: [1, 2]}\n",
        )
    )
    assert (found.seed, found.limit) == (3, 20)
    assert [one.name for one in found.conditions] == ["first", "zero", "plain", "k=1"]  # k=2 is "plain" again
    assert found.conditions[2].settings == {"reasoning": "off", "k": 2}
    assert settings_of(found.conditions[1], "title").retriever == "none"
    assert settings_of(found.conditions[2], "title", seed=7).seed == 7


def test_the_users_own_config_plays_no_part(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRLM_K", "9")
    assert settings_of(make("x", {}), "title").k != 9


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("settings: {api_key: sk-1}\nconditions: {a: }", UsageError, "can't set 'api_key'"),
        ("settings: {kk: 1}\nconditions: {a: }", UsageError, "can't set 'kk'"),
        ("conditions: {a: {k: many}}", ConfigError, "not a whole number"),
        ("conditions: {a: {user: me.jsonl}}", UsageError, "can't set 'user'"),
        ("conditions: {a: {profile: mine}}", UsageError, "no profile 'mine'"),
        ("conditions: {a: {baseline: best}}", UsageError, "no baseline 'best'"),
        ("conditions: {a: {baseline: copy, k: 2}}", UsageError, "takes no k"),
        ("condition: {a: }", UsageError, "unknown key 'condition'"),
        ("seed: many\nconditions: {a: }", UsageError, "seed is 'many'"),
        ("limit: 0\nconditions: {a: }", UsageError, "limit is 0"),
        ("seed: 1", UsageError, "neither conditions nor a grid"),
        ("- a", ConfigError, "no mapping"),
        ("a: [", UsageError, "not YAML"),
        ("conditions: [a]", UsageError, "no mapping"),
    ],
)
def test_what_is_no_plan_is_refused(tmp_path: Path, text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read_experiment(plan(tmp_path, text))


def test_a_missing_plan(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_experiment(tmp_path / "none.yaml")


def test_one_name_means_one_thing() -> None:
    with pytest.raises(UsageError, match="two conditions"):
        unique([make("a", {"k": 1}), make("a", {"k": 2})])
    assert len(baselines()) == 6


def test_a_servers_key_comes_from_the_environment_and_is_no_part_of_a_condition(monkeypatch):
    monkeypatch.setenv("PRLM_API_KEY", "sk-1")
    condition = make("served", {"base_url": "http://127.0.0.1:1/v1"})
    assert settings_of(condition, "title").api_key == "sk-1"
    assert "sk-1" not in repr(condition)
