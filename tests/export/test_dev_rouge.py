"""Dev ROUGE is that of the model's own answers to the users' requests, none of which is asked for twice."""

import json

import pytest
from tiny_lm import CORPUS, make_lm

torch = pytest.importorskip("torch")
pytest.importorskip("llama_cpp")

from prlm_edge.evaluate import runner  # noqa: E402
from prlm_edge.evaluate.run_folder import RunFolder  # noqa: E402
from prlm_edge.export.check import dev_rouge  # noqa: E402
from prlm_edge.export.gguf.model import About, write_gguf  # noqa: E402
from prlm_edge.rerank.overlap import Counted, rouge_1  # noqa: E402
from prlm_edge.train import config  # noqa: E402

RECIPE = config.load("edge-cpu", ["data.k=1", "data.item_words=8"])


def write_rows(path, targets):
    rows = []
    for user, target in enumerate(targets):
        profile = [{"id": f"{user}-{i}", "title": f"fix: part {i}", "text": CORPUS[i]} for i in range(3)]
        query = {"id": f"{user}-q", "text": CORPUS[user % 3]}
        rows.append({"user_id": f"{path.stem}{user}", "task": "acl_title", "query": query, "target": target})
        rows[-1]["profile"] = profile
        rows.append({**rows[-1], "query": {"id": f"{user}-r", "text": "another"}})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return config.DataFile(path=str(path))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = make_lm(
        tmp_path_factory.mktemp("m") / "m", "llama", tie_word_embeddings=True, max_position_embeddings=1024
    )
    write_gguf(folder, folder / "f16.gguf", About("Tiny", False))
    return folder / "f16.gguf"


def test_users_are_answered_once_each_and_scored_by_what_they_wrote(model, tmp_path, monkeypatch):
    files = [write_rows(tmp_path / f"{name}.jsonl", ["the rye won"] * 3) for name in "ab"]
    found = dev_rouge.score(model, RECIPE, files, 3, tmp_path / "out")
    assert len(found) == len({user for user, *_ in found.values()}) == 4  # two of each file
    answers = [answer for run in (tmp_path / "out").iterdir() for answer in RunFolder(run).answers()]
    assert all(answer.answer and answer.used and not answer.reasoning for answer in answers)

    said = {answer.user: answer.answer for answer in answers}
    files = [write_rows(tmp_path / f"{name}.jsonl", [said.get(f"{name}{n}", "") for n in range(3)]) for name in "ab"]
    perfect = dev_rouge.score(model, RECIPE, files, 3, tmp_path / "out")
    assert [row[1:] for row in perfect.values()] == [(1.0, 1.0)] * 4, "greedy: it says the same again"
    by_user = {user: one for user, one, _ in found.values()}
    assert by_user == {user: rouge_1(Counted(text), Counted("the rye won")) for user, text in said.items()}

    monkeypatch.setattr(runner, "open_backend", lambda settings: pytest.fail("asked again"))
    assert dev_rouge.score(model, RECIPE, files, 3, tmp_path / "out") == perfect


def test_the_difference_is_paired_by_user():
    trained = {f"d/{n}": (f"u{n}", 0.5, n / 10) for n in range(10)}
    worse = {row: (user, 0.4, value - 0.01) for row, (user, _, value) in trained.items()}
    found = dev_rouge.summary(worse, trained)
    assert (found.rouge1, found.rougeL) == (pytest.approx(0.4), pytest.approx(0.44))
    assert (found.rougeL_low, found.rougeL_high) == (pytest.approx(-0.01), pytest.approx(-0.01))
