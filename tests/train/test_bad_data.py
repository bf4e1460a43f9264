"""Bad data is refused before anything is trained, or left out and counted; the rest is learned from."""

import gzip
import json
from collections import Counter

import pytest

pytest.importorskip("torch")

from prlm_edge.cli import main
from prlm_edge.errors import ConfigError, UsageError
from prlm_edge.evaluate.data import load
from prlm_edge.train import base, config
from prlm_edge.train.config import DataFile
from prlm_edge.train.data import examples as data
from prlm_edge.train.data import prompts
from prlm_edge.train.data.rows import UNREADABLE
from prlm_edge.train.reward.batches import Tokenized
from prlm_edge.train.reward.pairs import make_pairs

pytestmark = pytest.mark.model
ANSWER_TOKENS = 32  # of the task that the rows are of
TAG_TOKENS = 24


@pytest.fixture
def row(rows_file):
    """A good one."""
    return json.loads(rows_file.read_text().splitlines()[0])


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def examples(path, tokens, n_ctx=1024, **values):
    """What the warm start learns from, and what it leaves out."""
    wanted = config.DataConfig(**{"k": 2, **values})
    tokens = base.Tokens(tokens.tokenizer, n_ctx)
    found = data.read([DataFile(path=str(path))], tokens, wanted, seed=0, loss_on="answer", limit=None)
    return found.examples, found.skipped


def asked(path, tokens, n_ctx=1024, **values):
    """What rejection sampling and GRPO draw answers for, and what they leave out."""
    values = {"k": 2, "reasoning": False, **values}
    given = {"data.files": [str(path)], **{f"data.{key}": value for key, value in values.items()}}
    skipped = Counter()
    tokens = base.Tokens(tokens.tokenizer, n_ctx)
    recipe = config.load("edge-cpu", [], given)
    return prompts.read(recipe.data.files, recipe, tokens, limit=None, skipped=skipped)[0], skipped


def preferences(path, tokens, n_ctx=1024, **values):
    """What the reward model learns from, and what it leaves out."""
    found = make_pairs(load(path).rows, config.RewardConfig(kinds=("style", "degenerate")), k=values.get("k", 2))
    if not found.pairs:
        Tokenized.of(found.pairs, None)
    return found.pairs, found.skipped


READERS = pytest.mark.parametrize("read", [examples, asked, preferences])
OF_PROMPTS = pytest.mark.parametrize("read", [examples, asked])


def damaged(good):
    rows = "".join(json.dumps(row) + "\n" for row in [good] * 3).encode()
    return {
        "empty": b"",
        "blank": b"\n \n\n",
        "binary": bytes(range(256)) * 40,
        "torn": rows[:-40],
        "torn in the middle": rows[:300] + b"\n" + rows[300:],
        "torn gzip": gzip.compress(rows)[:-20],
        "no gzip": b"\x1f\x8b" + rows,
        "torn array": b"[" + rows.splitlines()[0] + b", {",
        "other records": b'{"id": "a", "text": "no profile"}\n',
        "no JSON": b"user_id,query,target\n",
    }


@READERS
@pytest.mark.parametrize("how", damaged({}))
def test_a_damaged_file_is_refused_whole(read, how, tokens, row, tmp_path):
    """Even where rows before the damage are sound: nobody would notice that half is missing."""
    path = tmp_path / "damaged.jsonl"
    path.write_bytes(damaged(row)[how])
    with pytest.raises(UsageError, match=r"damaged\.jsonl") as error:
        read(path, tokens)
    assert error.value.hint


@READERS
@pytest.mark.parametrize("what", ["missing", "a folder"])
def test_what_is_no_file_is_refused(read, what, tokens, tmp_path):
    with pytest.raises(UsageError, match="no such file" if what == "missing" else "directory"):
        read(tmp_path / "none" if what == "missing" else tmp_path, tokens)


@READERS
def test_one_past_item_is_enough(read, tokens, row, tmp_path):
    found, skipped = read(write(tmp_path / "one.jsonl", row | {"profile": row["profile"][:1]}), tokens)
    assert found and not skipped


@READERS
@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"profile": []}, "no past writing"),
        ({"profile": [{"id": "a", "text": "a text, and no title to learn from"}]}, "no past writing"),
        ({"target": ""}, UNREADABLE),
        ({"target": " \n\t"}, UNREADABLE),
        ({"target": None}, UNREADABLE),
        ({"query": {"id": "q", "text": " "}}, UNREADABLE),
    ],
)
def test_rows_without_a_lesson_are_counted(read, values, why, tokens, row, tmp_path):
    other = row | {"user_id": "other"}
    found, skipped = read(write(tmp_path / "rows.jsonl", row, other | values), tokens)
    assert {one.row if hasattr(one, "row") else one.id for one in found} == {"u0/u0-6"}
    if read is not preferences or why == "no past writing":  # a data set counts for itself what it leaves out
        assert skipped == {why: 1}
    with pytest.raises(UsageError) as error:
        read(write(tmp_path / "none.jsonl", other | values), tokens)
    assert error.value.hint


@OF_PROMPTS
def test_answers_that_cannot_be_seen_or_are_too_long_are_counted(read, tokens, row, tmp_path):
    bad = [row | {"user_id": name, "target": text} for name, text in (("a", "\u200b\u2060"), ("b", "word " * 60))]
    found, skipped = read(write(tmp_path / "rows.jsonl", row, *bad), tokens)
    assert len(found) == 1
    assert skipped == {"an answer of which nothing can be seen": 1, "an answer longer than its budget": 1}


@READERS
def test_items_that_cannot_be_read_are_left_out_and_the_row_is_learned_from(read, tokens, row, tmp_path):
    found, skipped = read(write(tmp_path / "rows.jsonl", row | {"profile": [3, None, {}, *row["profile"]]}), tokens)
    assert found
    if read is not preferences:
        assert skipped == {UNREADABLE: 3}


@OF_PROMPTS
@pytest.mark.parametrize(
    "text", ["word " * 20_000, "w" * 100_000, "字" * 50_000], ids=["words", "one word", "no spaces"]
)
@pytest.mark.parametrize("n_ctx", [200, 256, 1024])
def test_a_request_longer_than_the_context_is_cut_to_fit(read, text, n_ctx, tokens, row, tmp_path):
    path = write(tmp_path / "long.jsonl", row | {"query": {"id": "q", "text": text}, "profile": row["profile"][:2]})
    ((one,), skipped) = read(path, tokens, n_ctx)
    n_prompt = one.n_prompt if read is examples else len(one.ids)
    assert n_prompt <= n_ctx - ANSWER_TOKENS - TAG_TOKENS + 4  # the opening tag
    assert text[:20] in tokens.tokenizer.decode(one.ids) and not skipped


@OF_PROMPTS
def test_a_context_that_does_not_hold_the_request_teaches_nothing(read, tokens, row, tmp_path):
    """There were examples once, each of an empty request."""
    path = write(tmp_path / "rows.jsonl", row)
    with pytest.raises(UsageError, match=r"1 left out: no room for the request") as error:
        read(path, tokens, 128)
    assert "data.max_tokens" in error.value.hint


@OF_PROMPTS
def test_budgets_that_leave_no_room_for_any_prompt_are_refused(read, tokens, row, tmp_path):
    path = write(tmp_path / "rows.jsonl", row | {"task": "release_note"})
    with pytest.raises(ConfigError, match=r"task note: a context of 128 tokens leaves") as error:
        read(path, tokens, 128)
    assert "data.max_tokens" in error.value.hint and "--" not in error.value.hint


def test_rows_of_one_id_stay_apart(tokens, row, tmp_path):
    """What is drawn and rewarded is looked up by a prompt's id: of a mixture's files, two may use the same."""
    path = write(tmp_path / "rows.jsonl", row, row | {"target": "another"}, row | {"target": "a third"})
    found, _ = asked(path, tokens)
    assert len({one.id for one in found}) == 3
    assert [one.target for one in found] == [row["target"], "another", "a third"]


def test_no_examples_are_no_order():
    with pytest.raises(UsageError, match="no examples"):
        data.in_order([], 1, 8, 0)


@pytest.mark.parametrize("stage", [["warmstart"], ["grpo"], ["rejection", "--adapter", "."]], ids=lambda s: s[0])
def test_on_the_command_line_bad_data_leaves_nothing_behind(stage, tiny_folder, tmp_path, capsys):
    (tmp_path / "bad.jsonl").write_bytes(bytes(range(256)) * 40)
    given = {"--data": tmp_path / "bad.jsonl", "--model": tiny_folder, "--out": tmp_path / "run"}
    assert main(["train", *stage, *(str(word) for pair in given.items() for word in pair)]) == 2
    said = capsys.readouterr()
    assert "bad.jsonl: line 1" in said.err and not said.out
    assert not (tmp_path / "run").exists()
