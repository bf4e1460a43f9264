"""The reward model on the command line: `generate --select reward`, and what `doctor` says of it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_reward import make_reward_model

from prlm_edge.backends.scripted import Scripted
from prlm_edge.cli import main
from prlm_edge.cli.doctor import system
from prlm_edge.models.store import hash_file
from prlm_edge.rerank.reward import scorer as reward_scorer
from prlm_edge.rerank.reward.scorer import CARD
from prlm_edge.writer import writer

pytest.importorskip("onnxruntime")
pytest.importorskip("tokenizers")
pytest.importorskip("onnx")  # to make a model

EXAMPLE = Path(__file__).parents[2] / "examples" / "me.jsonl"
ANSWERS = ["slow bread in a cold kitchen", "bread in a cold kitchen", "Bread!", "qqq zzz", "slow bread, cold kitchen"]
BEST_OF_5 = ["--best-of", "5", "--select", "reward"]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_reward_model(tmp_path_factory.mktemp("reward") / "up")


@pytest.fixture(autouse=True)
def bundled(home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for the model that comes with prlm-edge; the home is empty."""
    monkeypatch.setattr(reward_scorer, "BUNDLED", folder)
    return folder


@pytest.fixture
def generate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `prlm-edge generate`; returns exit code, stdout and stderr. Attribute `asked` holds the model's requests."""
    asked: list[Scripted] = []

    def open_backend(settings: object, *_: object) -> Scripted:
        asked.append(Scripted(f"<answer>{answer}</answer>" for answer in ANSWERS))
        return asked[-1]

    def run(*args: str) -> tuple[int, str, str]:
        code = main(["generate", "--user", str(EXAMPLE), *args, "title for my post on rye"])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    monkeypatch.setattr(writer, "open_backend", open_backend)
    run.asked = asked  # type: ignore[attr-defined]
    return run


def test_the_best_is_printed_and_json_has_every_score(generate: Run, folder: Path, tmp_path: Path) -> None:
    code, out, err = generate(*BEST_OF_5, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["select"] == "reward"
    assert sorted(one["answer"] for one in found["candidates"]) == sorted(ANSWERS)
    given = [one["score"] for one in found["candidates"]]
    assert given == sorted(given, reverse=True) and len(set(given)) == 5
    assert found["answer"] == found["candidates"][0]["answer"] != ANSWERS[0]
    assert generate(*BEST_OF_5)[:2] == (0, found["answer"] + "\n")
    turned = make_reward_model(tmp_path / "down", sign=-1.0)
    assert generate(*BEST_OF_5, "--reward-model", str(turned))[1] == found["candidates"][-1]["answer"] + "\n"


@pytest.mark.parametrize(
    ("make", "code", "text"),
    [
        (lambda path: None, 2, "no such folder"),
        (lambda path: path.mkdir(), 3, "no reward model in it"),
        (lambda path: path.write_text(""), 2, "not a folder"),
    ],
)
@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_a_wrong_folder_is_one_line_and_a_hint(
    generate: Run, tmp_path: Path, make: Callable[[Path], None], code: int, text: str, more: tuple[str, ...]
) -> None:
    make(tmp_path / "x")
    given, out, err = generate(*BEST_OF_5, "--reward-model", str(tmp_path / "x"), *more)
    assert (given, out) == (code, "")
    assert len(err.splitlines()) == 2
    assert text in err and str(tmp_path / "x") in err
    assert generate.asked == []  # type: ignore[attr-defined]


def test_without_a_bundled_model_or_its_packages_it_says_what_to_do(
    generate: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = make_reward_model(tmp_path / "fresh")  # one that is loaded stays so
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnxruntime", None)
        code, out, err = generate(*BEST_OF_5, "--reward-model", str(fresh))
    assert (code, out, len(err.splitlines())) == (4, "", 2)
    assert 'pip install "prlm-edge[onnx]"' in err
    monkeypatch.setattr(reward_scorer, "BUNDLED", tmp_path / "absent")
    code, out, err = generate(*BEST_OF_5)
    assert (code, out, len(err.splitlines())) == (4, "", 2)
    assert "--reward-model DIR" in err
    assert generate.asked == []  # type: ignore[attr-defined]


def test_a_flag_without_effect_is_noted(generate: Run, folder: Path) -> None:
    code, _, err = generate("--best-of", "5", "--reward-model", str(folder))
    assert code == 0
    assert "note: reward_model has no effect on select blend: add --select reward" in err


# -- doctor


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """What it finds of the reward model, under these settings; a server answers, so nothing else is needed."""
    monkeypatch.setattr(system, "check_packages", lambda found: [])
    monkeypatch.setenv("PRLM_BASE_URL", "http://127.0.0.1:1/v1")

    def run(**settings: object) -> dict[str, Any]:
        for key, value in settings.items():
            monkeypatch.setenv(f"PRLM_{key.upper()}", str(value))
        code = main(["doctor", "--json"])
        found = json.loads(capsys.readouterr().out)
        [check] = [check for check in found["checks"] if check["name"] == "reward model"]
        assert (code == 4) == (check["needed"] and check["state"] in ("missing", "bad"))
        return dict(check)

    return run


def test_doctor_finds_it_and_loads_it_where_it_is_the_setting(
    doctor: Callable[..., dict[str, Any]], folder: Path
) -> None:
    check = doctor()
    assert (check["section"], check["state"], check["needed"], check["fix"]) == ("Models", "ok", False, "")
    assert "hashes verified" in check["text"] and str(folder) in check["text"]
    assert "it loads" in doctor(select="reward")["text"]
    assert not doctor()["needed"]
    assert doctor(best_of=8)["needed"]


def test_doctor_says_that_it_is_missing(
    doctor: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reward_scorer, "BUNDLED", tmp_path / "absent")
    assert doctor()["state"] == "note"
    check = doctor(select="reward", best_of=8)
    assert (check["state"], check["needed"]) == ("missing", True)
    assert "--reward-model DIR" in check["fix"]
    assert doctor(reward_model=tmp_path / "wrong")["state"] == "bad"


def test_doctor_names_the_packages(doctor: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    check = doctor()
    assert check["state"] == "note"
    assert check["fix"].endswith('pip install "prlm-edge[onnx]"')
    assert doctor(select="reward", best_of=8)["state"] == "missing"


def test_doctor_sees_damage_that_hashes_do_not(
    doctor: Callable[..., dict[str, Any]], folder: Path, tmp_path: Path
) -> None:
    """The card was written for these bytes, and they are no model."""
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    (broken / "model.onnx").write_bytes(b"no model")
    card = json.loads((broken / CARD).read_text())
    card["sha256"]["model.onnx"] = hash_file(broken / "model.onnx")
    (broken / CARD).write_text(json.dumps(card))
    check = doctor(select="reward", reward_model=broken)
    assert check["state"] == "bad"
    assert "does not load" in check["text"] and "Traceback" not in check["text"]
    assert check["fix"] == "prlm-edge config unset select"
