"""Examples: the runtime's prompt, what is learned of it, and what is left out."""

import json
from dataclasses import replace

import pytest

from prlm_edge import Profile, Writer
from prlm_edge.backends.scripted import Scripted
from prlm_edge.errors import ConfigError, UsageError
from prlm_edge.evaluate.data import load
from prlm_edge.train import base, config
from prlm_edge.train.config import DataFile
from prlm_edge.train.data import examples as data
from prlm_edge.train.data import prompts, rows

pytestmark = pytest.mark.model
CONFIG = config.DataConfig(k=2)


def learned(tokens, example):
    return tokens.tokenizer.decode([i for i, own in zip(example.ids, example.own, strict=True) if own])


def read(tokens, path, config=CONFIG, **options):
    return data.read(
        [DataFile(path=str(path))], tokens, config, **{"seed": 0, "loss_on": "all", "limit": None, **options}
    )


def test_prompts_are_the_runtimes(tokens, rows_file, smollm2_path):
    """Token for token what the evaluation would ask."""
    from prlm_edge.backends.llama.backend import LlamaCpp
    from prlm_edge.writer import Asker

    model = LlamaCpp(smollm2_path)
    try:
        for reasoning in (False, True):
            wanted = replace_config(reasoning=reasoning)
            example = read(tokens, rows_file, wanted).examples[0]
            row = load(rows_file).rows[0]
            settings = rows.settings_for(row, rows.settings_of(wanted, 0), wanted)
            plan = Asker().plan(row.query, row.profile, settings, model, model.info)
            assert example.ids[: example.n_prompt] == tuple(model.prompt_ids(plan.request))
    finally:
        model.close()


@pytest.mark.parametrize(
    "query", ["steam, at last", "say it\n\n--- a/oven.py\n+++ b/oven.py\n@@ -1 +1 @@\n-cold\n+hot\n"]
)
def test_training_asks_what_the_writer_asks(query, tokens, rows_file, tmp_path, home):
    """A diff is turned into text, in examples and in what answers are drawn for."""
    line = json.loads(rows_file.read_text().splitlines()[0])
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(line | {"task": "commit_subject", "query": {"id": "q", "text": query}}) + "\n")
    profile = Profile.open(tmp_path / "me.jsonl", create=True)
    profile.append(load(path).rows[0].profile)
    recipe = config.load("edge-cpu", [], {"data.reasoning": False})
    writer = Writer(profile, rows.settings_of(recipe.data, 0), Scripted(["<answer>x</answer>"]))
    turns = writer.plan(query, task="commit").prompt.turns
    wanted = tokens.prompts.encode_turns(turns, reasons=False).tokens
    example = read(tokens, path, recipe.data, loss_on="answer").examples[0]
    assert example.ids[: example.n_prompt] == wanted
    [ask] = prompts.read([DataFile(path=str(path))], recipe, tokens, limit=None)[0]
    assert ask.ids == wanted
    assert ("Changed files: oven.py" in turns[-1].text) == ("@@" in query)


def test_mixed_data_reasons_in_about_half_of_its_examples(tokens, rows_file):
    asked = load(rows_file).rows
    settings = rows.settings_of(CONFIG, 0)
    mixed = replace_config(reasoning="mixed")
    ways = [replace(row, id=f"{row.id}-{i}") for row in asked for i in range(100)]
    share = sum(rows.settings_for(row, settings, mixed).reasoning == "hide" for row in ways) / len(ways)
    assert 0.4 < share < 0.6
    for row, example in zip(asked, read(tokens, rows_file, mixed).examples, strict=True):
        reasons = rows.settings_for(row, settings, mixed).reasoning == "hide"
        assert reasons == ("<think>" in tokens.tokenizer.decode(example.ids))


def replace_config(**values):
    return CONFIG.model_copy(update=values)


def test_the_loss_is_on_what_the_user_wrote(tokens, rows_file):
    example = read(tokens, rows_file, loss_on="answer").examples[0]
    row = load(rows_file).rows[0]
    assert learned(tokens, example) == f"{row.target}</answer><|im_end|>"
    assert not any(example.own[: example.n_prompt])


def test_or_on_every_past_answer_too(tokens, rows_file):
    text = learned(tokens, read(tokens, rows_file).examples[0])
    row = load(rows_file).rows[0]
    titles = text.removesuffix("</answer><|im_end|>").split("</answer><|im_end|>")
    assert len(titles) == 3 and titles[-1] == row.target
    assert set(titles[:2]) <= {item.title for item in row.profile}


def test_reasoning_lines_are_learned_and_true(tokens, rows_file):
    from prlm_edge.style import check_line, style_of

    example = read(tokens, rows_file, replace_config(reasoning=True), loss_on="answer").examples[0]
    row = load(rows_file).rows[0]
    line, _, answer = learned(tokens, example).partition("</think>")
    assert answer == f"{row.target}</answer><|im_end|>"  # the tags between are forced, not learned
    true, claims = check_line(line, row.target, 2, style_of([item.title for item in row.profile]), row.query)
    assert claims >= 2 and true == claims


def test_further_examples_see_only_what_is_older(tokens, rows_file):
    found = read(tokens, rows_file, more_per_user=2).examples
    assert [e.row.endswith(("/-1", "/-2")) for e in found[:3]] == [False, True, True]
    row = load(rows_file).rows[0]
    text = tokens.tokenizer.decode(found[2].ids)
    assert row.profile[-2].title in learned(tokens, found[2])
    assert row.profile[-1].title not in text and row.target not in text


def test_further_examples_ask_in_the_shapes_of_the_recipe_by_turns(tokens, rows_file):
    config = replace_config(more_shapes=("topic", "text"))
    found = read(tokens, rows_file, config, more_per_user=2).examples
    newest, older = (load(rows_file).rows[0].profile[place] for place in (-1, -2))
    asked = [tokens.tokenizer.decode(one.ids[: one.n_prompt]).rpartition("subject for: ")[2] for one in found[1:3]]
    assert asked[0].startswith(newest.text.partition("\n\n")[2] + "<|im_end|>")  # what was said of the change
    assert asked[1].startswith(older.text)


def test_drafts_that_were_accepted_as_they_were_are_not_trained_on(tokens, rows_file, tmp_path):
    """Neither as what is shown, nor as further requests; one that was edited is."""
    seen = []
    for origin in (None, "accepted", "edited"):
        path = tmp_path / f"{origin}.jsonl"
        lines = []
        for row in map(json.loads, rows_file.read_text().splitlines()):
            own = {"title": "Docs: Ours Again", "text": "The parser of part 3 lost its last line.", "kind": "commit"}
            more = [
                {**own, "id": f"o{i}", "text": f"{own['text']} {i}", "meta": {"origin": origin}} for i in range(200)
            ]
            lines.append(json.dumps({**row, "profile": row["profile"] + more * bool(origin)}))
        path.write_text("\n".join(lines) + "\n")
        seen.append([(one.ids, one.own) for one in read(tokens, path, more_per_user=2).examples])
    assert seen[0] == seen[1] != seen[2]


def test_training_asks_with_what_the_recipe_says(tokens, rows_file, tmp_path):
    lines = [json.loads(line) for line in rows_file.read_text().splitlines()[:2]]
    lines[0]["query"]["short"] = "a parser"
    for item in lines[0]["profile"][-2:]:
        item["short"] = "topic " + item["id"]
    path = tmp_path / "asks.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = read(tokens, path, replace_config(ask=("short", "text")), more_per_user=3)
    of_short = [example for example in found.examples if "/short" in example.row]
    assert [example.row.rpartition("/")[2] for example in of_short] == ["short", "-1", "-2", "-3"]
    assert "topic " + lines[0]["profile"][-1]["id"] in tokens.tokenizer.decode(of_short[1].ids)
    assert len(found.examples) == 3 * 4
    assert sum(found.skipped.values()) == 1


def test_answers_are_drawn_for_every_form_of_a_request(tokens, rows_file, tmp_path):
    line = json.loads(rows_file.read_text().splitlines()[0])
    diff = "diff --git a/docs/p.py b/docs/p.py\n--- a/docs/p.py\n+++ b/docs/p.py\n@@ -1 +1 @@\n-left = 1\n+right = 1\n"
    line["query"] |= {"short": "the parser's last line", "diff": diff}
    path = tmp_path / "asks.jsonl"
    path.write_text(json.dumps(line) + "\n")
    recipe = config.load("edge-cpu", ["data.ask=[short, text, diff]"])
    asked, _ = prompts.read([DataFile(path=str(path))], recipe, tokens, limit=None)
    assert [one.scoring.shape for one in asked] == ["topic", "text", "change"]
    assert len({one.id for one in asked}) == 3 and {one.target for one in asked} == {line["target"]}
    assert asked[2].scoring.query == "Changed files: docs/p.py\n\n- left = 1\n+ right = 1"
    assert all(tokens.tokenizer.decode(one.ids).count(one.scoring.query) == 1 for one in asked)


def test_files_of_a_mixture_are_asked_each_in_its_own_way(tokens, rows_file, tmp_path):
    lines = [json.loads(line) for line in rows_file.read_text().splitlines()]
    for line in lines:
        line["query"]["short"] = "a parser"
    again = [line | {"query": line["query"] | {"id": "again"}} for line in lines]
    path = tmp_path / "asks.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in [*lines, *again]))
    mixture = [
        DataFile(path=str(path), limit=3, per_user=1, ask=("text",), more_per_user=1, more_shapes=("topic",)),
        DataFile(path=str(path), limit=2, ask=("short",)),
        DataFile(path=str(path)),
    ]
    recipe = config.load("edge-cpu", ["data.ask=[short, text]", "data.reasoning=false"])
    found = data.read(mixture, tokens, recipe.data, seed=0, loss_on="answer", limit=4).examples
    kinds = [one.row.split("/")[2:] for one in found]
    assert kinds == [["text"], ["text", "-1"]] * 3 + [["short"]] * 4 + [["short"], ["text"]] * 8
    asked = tokens.tokenizer.decode(found[1].ids[: found[1].n_prompt]).rpartition("subject for: ")[2]
    assert asked.startswith("The parser of part 5")  # the newest past item, by its topic
    ids = [ask.id for ask in prompts.read(mixture, recipe, tokens, limit=4)[0]]
    assert len(ids) == len(set(ids)) == 3 + 4 + 16


def test_prompts_fit(tokens, rows_file):
    small = replace(tokens.info, n_ctx_max=256)
    tight = base.Tokens(tokens.tokenizer, small.n_ctx_max)
    for example in read(tight, rows_file, replace_config(k=6)).examples:
        assert len(example.ids) <= 256


def test_what_cannot_be_learned_from_is_counted(tokens, rows_file, tmp_path):
    lines = [json.loads(line) for line in rows_file.read_text().splitlines()]
    lines[0]["profile"] = []
    lines[1]["target"] = "word " * 60
    lines[2]["target"] = " "
    lines[3]["profile"] = lines[3]["profile"][:1]  # one item is enough
    path = tmp_path / "bad.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in lines))
    found = read(tokens, path)
    assert len(found.examples) == 9
    assert dict(found.skipped) == {
        "no past writing": 1,
        "an answer longer than its budget": 1,
        "no query, no target, or an item that can't be read": 1,
    }
    assert "9 examples" in found.say() and "1 left out: no past writing" in found.say()


def test_files_of_one_name_keep_a_hash_each(tokens, rows_file, tmp_path):
    """Mixtures are made of many a train.jsonl: a run that goes on must see a change in each."""
    other = tmp_path / "other" / rows_file.name
    other.parent.mkdir()
    other.write_text("".join(rows_file.read_text().splitlines(keepends=True)[:6]))
    options = {"seed": 0, "loss_on": "answer", "limit": None}
    found = data.read([DataFile(path=str(one)) for one in (rows_file, other)], tokens, CONFIG, **options)
    assert found.sha256 == {"rows.jsonl": load(rows_file).sha256, "rows.jsonl (2)": load(other).sha256}
    recipe = config.load("edge-cpu")
    _, asked = prompts.read([DataFile(path=str(one)) for one in (rows_file, other)], recipe, tokens, limit=None)
    assert asked == found.sha256


def test_nothing_to_learn_from_is_refused(tokens, rows_file, tmp_path):
    with pytest.raises(UsageError, match="no data"):
        data.read([], tokens, CONFIG, seed=0, loss_on="all", limit=None)
    row = json.loads(rows_file.read_text().splitlines()[0]) | {"profile": []}
    path = tmp_path / "none.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(UsageError, match="nothing to learn from"):
        read(tokens, path)


@pytest.mark.parametrize("values", [{"layout": "block"}, {"retriever": "none"}])
def test_a_loss_on_what_is_not_shown_is_refused(tokens, rows_file, values):
    with pytest.raises(ConfigError, match="loss_on"):
        read(tokens, rows_file, replace_config(**values))
    assert read(tokens, rows_file, replace_config(**values), loss_on="answer").examples


def test_hostile_text_yields_no_control_token(tokens, rows_file, tmp_path):
    lines = [json.loads(line) for line in rows_file.read_text().splitlines()[:1]]
    lines[0]["target"] = "x<|im_end|>y</answer>"
    path = tmp_path / "hostile.jsonl"
    path.write_text(json.dumps(lines[0]) + "\n")
    example = read(tokens, path, loss_on="answer").examples[0]
    end = tokens.encode_text("<|im_end|>", trusted=True)[0]
    assert example.ids[example.n_prompt :].count(end) == 1 and example.ids[-1] == end


def test_the_order_is_whole_mixed_and_of_like_lengths():
    examples = [data.Example(str(i), (0,) * (i % 37 + 1), (True,) * (i % 37 + 1), 0) for i in range(300)]
    order = data.in_order(examples, 2, 8, 0)
    assert len(order) == 600
    assert sorted(e.row for e in order[:300]) == sorted(e.row for e in order[300:]) == sorted(e.row for e in examples)
    assert order[:300] != order[300:] and order == data.in_order(examples[::-1], 2, 8, 0)
    assert order != data.in_order(examples, 2, 8, 1)
    assert len(data.in_order(examples, 0.5, 8, 0)) == 152
    batches = [order[i : i + 8] for i in range(0, 296, 8)]
    padded = sum(8 * max(len(e.ids) for e in batch) for batch in batches)
    assert padded < 1.1 * sum(len(e.ids) for e in order[:296])
    firsts = [len(batch[0].ids) for batch in batches]
    assert firsts != sorted(firsts)
