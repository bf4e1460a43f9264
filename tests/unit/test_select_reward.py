"""Best of n by a reward model: which one is asked, when it is loaded, what is refused before anything is drawn."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from evaluation import asked, row, write_rows
from tiny_reward import make_reward_model

from prlm_edge import Profile, Writer
from prlm_edge.backends.scripted import Scripted
from prlm_edge.errors import MissingError, ModelError, UsageError
from prlm_edge.evaluate import provenance, runner
from prlm_edge.evaluate.conditions import make
from prlm_edge.evaluate.data import load
from prlm_edge.evaluate.records import Condition
from prlm_edge.evaluate.run_folder import RunFolder
from prlm_edge.rerank import make_scorer, rank
from prlm_edge.rerank.reward import scorer as reward_scorer
from prlm_edge.rerank.reward.scorer import RewardScorer
from prlm_edge.settings import Settings, load_settings
from prlm_edge.style import style_of
from prlm_edge.types import Candidate, Item, Result, Scoring
from prlm_edge.writer import writer

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("tokenizers")
pytest.importorskip("onnx")  # to make a model

TITLES = ["rye wins: three flours", "the drain we should have dug", "truing a wheel by ear"]
ANSWERS = ["slow bread in a cold kitchen", "bread in a cold kitchen", "Bread!", "qqq zzz", "slow bread, cold kitchen"]
REPLIES = [f"<think>why</think><answer>{answer}</answer>" for answer in ANSWERS]
N = len(ANSWERS)
DRAFT = "It is winter.\n\nThis is a text on bread."
REQUEST = f"title for my post:\n\n{DRAFT}"

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_reward_model(tmp_path_factory.mktemp("reward") / "up")


@pytest.fixture(scope="session")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that thinks the opposite."""
    return make_reward_model(tmp_path_factory.mktemp("reward") / "down", sign=-1.0)


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """A copy that no other test has loaded."""
    return Path(shutil.copytree(folder, tmp_path / "own"))


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The model files that were loaded since."""
    opened: list[str] = []

    class Counted(onnxruntime.InferenceSession):  # type: ignore[misc]
        def __init__(self, path: str, *args: object, **kwargs: object) -> None:
            opened.append(path)
            super().__init__(path, *args, **kwargs)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Counted)
    return opened


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    profile = Profile.open(tmp_path / "me.jsonl", create=True)
    profile.append([Item(str(i), text=f"Text {i} on bread.", title=title) for i, title in enumerate(TITLES)])
    return profile


def a_writer(profile: Profile | None, **flags: object) -> Writer:
    return Writer(profile, load_settings(flags=flags), Scripted(REPLIES))


def scores(folder: Path, result: Result) -> dict[str, float]:
    """What the device's scorer makes of the answers, asked directly."""
    past = tuple(hit.item.title for hit in result.used)
    context = Scoring(DRAFT, "title", style_of(TITLES), result.used, past)
    return dict(zip(ANSWERS, RewardScorer(folder).score(list(map(Candidate, ANSWERS)), context), strict=True))


# -- which answer is kept


def test_the_answer_with_the_highest_score_is_kept(profile: Profile, turned: Path) -> None:
    result = a_writer(profile, best_of=N, select="reward", reward_model=turned).generate(REQUEST)
    expected = scores(turned, result)
    assert len(set(expected.values())) == N
    assert {one.answer: one.score for one in result.candidates} == expected
    assert [one.answer for one in result.candidates] == sorted(ANSWERS, key=lambda answer: -expected[answer])
    assert (result.answer, result.select) == (max(expected, key=lambda answer: expected[answer]), "reward")
    other = a_writer(profile, best_of=N, select="consensus").generate(REQUEST).answer
    assert result.answer not in {ANSWERS[0], other}  # not by chance


def test_the_model_that_the_settings_name_is_asked(profile: Profile, folder: Path, turned: Path) -> None:
    up, down = (
        a_writer(profile, best_of=N, reward_model=one).generate(REQUEST, select="reward") for one in (folder, turned)
    )
    assert [one.answer for one in down.candidates] == [one.answer for one in reversed(up.candidates)]
    assert a_writer(profile, best_of=N, reward_model=folder).generate(REQUEST).select == "blend"


def test_open_takes_it_as_any_setting(
    profile: Profile, folder: Path, turned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "open_backend", lambda *_: Scripted(REPLIES))
    monkeypatch.setenv("PRLM_REWARD_MODEL", str(turned))
    monkeypatch.setenv("PRLM_BEST_OF", str(N))
    with Writer.open(profile.path, select="reward") as by_env:
        low = by_env.generate(REQUEST)
    with Writer.open(profile.path, select="reward", reward_model=folder) as by_name:
        high = by_name.generate(REQUEST)
    assert low.answer == high.candidates[-1].answer != high.answer


def test_a_folder_in_a_config_file_is_beside_the_file(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "more.toml").write_text('select = "reward"\nreward_model = "mine"\n')
    found = load_settings(config=tmp_path / "more.toml")
    assert found.reward_model == str(tmp_path / "mine")
    assert make_scorer(found).folder == tmp_path / "mine"  # type: ignore[attr-defined]
    assert load_settings(env={"PRLM_REWARD_MODEL": ""}).reward_model is None


def test_a_scorer_of_ones_own_needs_no_setting(profile: Profile, turned: Path) -> None:
    found = Writer(profile, load_settings(flags={"best_of": N}), Scripted(REPLIES), scorer=RewardScorer(turned))
    assert found.generate(REQUEST).select == "reward"


def test_without_a_name_it_is_the_bundled_one(
    profile: Profile, turned: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reward_scorer, "BUNDLED", turned)
    bundled = a_writer(profile, best_of=N, select="reward").generate(REQUEST)
    named = a_writer(profile, best_of=N, select="reward", reward_model=folder).generate(REQUEST)
    assert bundled.answer == named.candidates[-1].answer != named.answer


def test_the_bundled_model_is_whole_and_prefers_what_looks_like_the_user() -> None:
    """The one that is shipped; nothing of ours is put in its place."""
    if not reward_scorer.BUNDLED.exists():
        pytest.skip("prlm_edge/assets/reward is not there yet: it is trained and committed by hand")
    titles = ["fix the parser", "add a cache", "drop python 3.9", "make tests faster", "use one session"]
    context = Scoring("The index lost its last line.", "commit", style_of(titles), past=tuple(titles))
    given = [Candidate("UNTITLED DOCUMENT!!! PLEASE CHANGE"), Candidate("keep the last line of the index")]
    assert rank(given, make_scorer(Settings(select="reward")), context)[0].answer == given[1].answer


# -- when it is loaded


def test_it_is_loaded_once_for_all_requests_writers_and_threads(
    profile: Profile, own: Path, sessions: list[str]
) -> None:
    flags = {"best_of": N, "select": "reward", "reward_model": own}
    ready = threading.Barrier(4)

    def work(found: Writer) -> None:
        ready.wait()
        for _ in range(3):
            found.generate(REQUEST)

    threads = [threading.Thread(target=work, args=(a_writer(profile, **flags),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sessions == [str(own / "model.onnx")]


def test_it_is_not_loaded_before_answers_are_there_to_choose_from(
    profile: Profile, own: Path, sessions: list[str]
) -> None:
    reward = {"select": "reward", "reward_model": own}
    a_writer(profile, **reward).generate(REQUEST)
    a_writer(profile, best_of=N, reward_model=own).generate(REQUEST)
    a_writer(profile, best_of=N, **reward).plan(REQUEST)
    for event in a_writer(profile, best_of=N, **reward).stream(REQUEST):
        if event.type == "candidate" and event.done == N:
            assert not sessions
    assert len(sessions) == 1


def test_what_was_asked_for_and_has_no_effect_is_noted(profile: Profile, folder: Path) -> None:
    alone = a_writer(profile, select="reward", reward_model=folder).generate(REQUEST)
    assert alone.notes == ("select chooses among several answers, and one is written: add --best-of 8",)
    unused = a_writer(profile, best_of=2, reward_model=folder).generate(REQUEST)
    assert unused.notes == ("reward_model has no effect on select blend: add --select reward",)
    used = a_writer(profile, best_of=N, select="reward", reward_model=folder)
    assert used.generate(REQUEST).notes == ()
    style = a_writer(profile, reward_model=folder).generate(REQUEST, select="style", best_of=N)
    assert style.notes[0].startswith("reward_model has no effect on select style")


def test_what_a_config_file_says_may_wait_for_its_use(profile: Profile, tmp_path: Path) -> None:
    (tmp_path / "more.toml").write_text('select = "reward"\nreward_model = "absent"\n')
    found = Writer(profile, load_settings(config=tmp_path / "more.toml"), Scripted(REPLIES))
    assert found.generate(REQUEST).notes == ()


def test_neither_torch_nor_anything_heavy_is_imported(own: Path, tmp_path: Path) -> None:
    code = """
import json, sys
from prlm_edge import Writer
from prlm_edge.backends.scripted import Scripted
from prlm_edge.settings import load_settings
writer = Writer(None, load_settings(flags=json.loads(sys.argv[1])), Scripted(json.loads(sys.argv[2])))
before = None
for event in writer.stream("title for bread"):
    before = before or (set(sys.modules) if event.type == "candidate" else None)
assert event.result.select == "reward" and len(event.result.candidates) == 5
assert "onnxruntime" in sys.modules and not {"torch", "transformers", "trl", "onnx"} & set(sys.modules)
print(sorted(before & {"onnxruntime", "tokenizers", "numpy"}))
"""
    flags = {"best_of": N, "select": "reward", "reward_model": str(own), "retriever": "none"}
    command = [sys.executable, "-c", code, json.dumps(flags), json.dumps(REPLIES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


# -- what is refused, before a model is loaded and answers are drawn


def later_version(own: Path) -> str:
    return json.dumps({**json.loads((own / "reward.json").read_text()), "encoding": 99})


BROKEN = {
    "absent": (shutil.rmtree, UsageError, "no such folder"),
    "a file": (lambda own: (shutil.rmtree(own), own.write_text("")), UsageError, "not a folder"),
    "empty": (lambda own: [file.unlink() for file in own.iterdir()], ModelError, "no reward model in it"),
    "no model": (lambda own: (own / "model.onnx").unlink(), ModelError, "model.onnx"),
    "a cut model": (lambda own: os.truncate(own / "model.onnx", 99), ModelError, "not the file that reward.json was"),
    "a damaged card": (lambda own: (own / "reward.json").write_text("[]"), ModelError, "damaged"),
    "a later card": (lambda own: (own / "reward.json").write_text(later_version(own)), ModelError, "encoding 99"),
}


@pytest.fixture
def no_llm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails where a language model is loaded."""

    def never(*_: object) -> None:
        pytest.fail("the language model was loaded first")

    for module in (writer, runner):
        monkeypatch.setattr(module, "open_backend", never)
    yield


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.usefixtures("no_llm")
def test_a_folder_that_is_no_whole_reward_model_is_refused_first(profile: Profile, own: Path, how: str) -> None:
    harm, error, text = BROKEN[how]
    harm(own)  # type: ignore[operator]
    found = Writer.open(profile.path, best_of=2, select="reward", reward_model=own)
    for ask in (found.generate, found.plan):
        with pytest.raises(error, match=text) as caught:
            ask(REQUEST)
        assert str(own) in caught.value.message
        assert caught.value.hint
        assert "\n" not in caught.value.message + caught.value.hint


@pytest.mark.usefixtures("no_llm")
def test_a_prlm_edge_that_came_without_one_says_so_first(
    profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reward_scorer, "BUNDLED", tmp_path / "absent")
    with pytest.raises(MissingError, match="came without a reward model") as caught:
        Writer.open(profile.path, best_of=2).generate(REQUEST, select="reward")
    assert "--reward-model" in caught.value.hint


@pytest.mark.parametrize("package", ["onnxruntime", "tokenizers"])
@pytest.mark.usefixtures("no_llm")
def test_a_missing_package_is_named_first(
    profile: Profile, own: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingError, match="onnxruntime and tokenizers") as caught:
        Writer.open(profile.path, best_of=2, select="reward", reward_model=own).generate(REQUEST)
    assert caught.value.hint == 'pip install "prlm-edge[onnx]"'


def test_what_is_mended_is_taken_without_a_new_writer(profile: Profile, own: Path, tmp_path: Path) -> None:
    found = a_writer(profile, best_of=N, select="reward", reward_model=tmp_path / "later")
    with pytest.raises(UsageError):
        found.generate(REQUEST)
    own.rename(tmp_path / "later")
    assert found.generate(REQUEST).select == "reward"


# -- evaluation


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = load(write_rows(tmp_path / "dev.jsonl", [row(user) for user in range(4)]))

    def go(conditions: list[Condition]) -> tuple[Scripted, dict[str, list[dict[str, object]]]]:
        backend = Scripted(REPLIES * 4)
        monkeypatch.setattr(runner, "open_backend", lambda settings: backend)
        folder = RunFolder.create(tmp_path / "run", {"asked": asked(conditions), "seed": 0, "command": "x"})
        runner.answer_all(folder, data, conditions)
        found: dict[str, list[dict[str, object]]] = {one.name: [] for one in conditions}
        for line in (tmp_path / "run" / "answers.jsonl").read_text().splitlines():
            found[json.loads(line)["condition"]].append(json.loads(line))
        return backend, found

    return go


def test_conditions_share_their_draws_and_one_session(run, own: Path, turned: Path, sessions: list[str]) -> None:
    conditions = [
        make("consensus", {"best_of": N, "select": "consensus"}),
        make("reward", {"best_of": N, "select": "reward", "reward_model": str(own)}),
        make("turned", {"best_of": N, "select": "reward", "reward_model": str(turned)}),
        make("few", {"best_of": 2, "select": "reward", "reward_model": str(own)}),
        make("one", {"select": "reward", "reward_model": str(own)}),
    ]
    backend, found = run(conditions)
    assert len(backend.requests) == 4 * N
    assert sessions.count(str(own / "model.onnx")) == 1
    assert all(len(lines) == 4 for lines in found.values())
    for of_reward, of_turned, of_few in zip(found["reward"], found["turned"], found["few"], strict=True):
        by_score = {one["answer"]: one["score"] for one in of_reward["candidates"]}
        assert of_reward["answer"] == max(by_score, key=by_score.get)  # type: ignore[arg-type]
        assert of_turned["answer"] == min(by_score, key=by_score.get)  # type: ignore[arg-type]
        assert of_few["answer"] == max(ANSWERS[:2], key=by_score.get)  # type: ignore[arg-type]
    assert {line["answer"] for line in found["one"]} == {ANSWERS[0]}
    assert found["reward"][0]["answer"] != found["consensus"][0]["answer"]


def test_the_scores_are_those_of_the_model_with_the_users_own_past(run, own: Path) -> None:
    _, found = run([make("reward", {"best_of": N, "select": "reward", "reward_model": str(own), "k": 2})])
    for line in found["reward"]:
        titles = [item["title"] for item in row(int(str(line["user"])[1:]))["profile"]]
        shown = tuple(one["title"] for one in line["used"])  # type: ignore[attr-defined]
        context = Scoring(str(line["query"]), "title", style_of(titles), past=shown)
        for one in line["candidates"]:  # type: ignore[attr-defined]
            assert one["score"] == RewardScorer(own).score([Candidate(one["answer"])], context)[0]


def test_a_condition_of_one_answer_loads_nothing(run, own: Path, sessions: list[str]) -> None:
    _, found = run([make("one", {"select": "reward", "reward_model": str(own)}), make("log", {"select": "logprob"})])
    assert {line["answer"] for lines in found.values() for line in lines} >= {ANSWERS[0]}
    assert sessions == []


def test_the_header_of_a_run_knows_the_model_and_refuses_a_wrong_one(
    tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reward_scorer, "BUNDLED", own)
    data = load(write_rows(tmp_path / "dev.jsonl", [row(0)]))
    common = {"base_url": "http://127.0.0.1:1/v1", "select": "reward"}
    conditions = [
        make("bundled", {**common, "best_of": 8}),
        make("named", {**common, "best_of": 8, "reward_model": str(own)}),
        make("one", {**common, "reward_model": str(tmp_path / "absent")}),
    ]
    models = provenance.header(data, conditions, 0, "x")["asked"]["models"]
    sha256 = json.loads((own / "reward.json").read_text())["sha256"]["model.onnx"]
    assert models["bundled reward model"] == models[str(own)] == {"file": "own", "sha256": sha256}
    assert str(tmp_path / "absent") not in models
    wrong = make("wrong", {**common, "best_of": 8, "reward_model": str(tmp_path / "absent")})
    with pytest.raises(UsageError, match="no such folder"):
        provenance.header(data, [wrong], 0, "x")
