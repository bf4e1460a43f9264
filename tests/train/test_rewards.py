"""Reward terms on hand-computed cases and real rows, and TRL's functions made of them."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prlm_edge.errors import ConfigError, PrlmError
from prlm_edge.rerank.scorers import StyleMatch
from prlm_edge.style import Style, style_of
from prlm_edge.train.grpo.terms import Ask, Rollout, make_terms
from prlm_edge.train.grpo.to_trl import as_trl_reward_funcs, splitter

SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "sample"
PAST = ("docs: mend the index", "docs: mend the parser", "docs: name the reader")
ASK = Ask("the reader loses a line", "docs: mend the reader", PAST, 3, style_of(PAST), "commit")
ROLLOUT = Rollout("p", "", "docs: mend the reader", "stop", False, 0, 6)


def term(name, rollouts, asks=None, **options):
    made = make_terms({name: 1.0}, **options)[name]
    return made(rollouts, asks or [ASK] * len(rollouts))


def answers(*texts, **fields):
    return [replace(ROLLOUT, answer=text, **fields) for text in texts]


def test_accuracy_by_hand():
    ask = replace(ASK, target="a b c")
    found = term("accuracy", answers("a b d", "a b c", "x y z", ""), [ask] * 4)
    # of three words two are shared, of two pairs one, and the longest common run is "a b"
    assert found == pytest.approx([2 / 3 + 1 / 2 + 2 / 3, 3, 0, 0])


def test_accuracy_sees_other_scripts():
    ask = replace(ASK, target="Μια σύντομη ιστορία")
    assert term("accuracy", answers("μια σύντομη ιστορία", "άλλο"), [ask] * 2) == [3, 0]


@pytest.mark.parametrize(
    ("answer", "fields", "passed"),
    [
        ("docs: mend the reader", {}, 5),
        ("docs: mend the reader", {"finish_reason": "length"}, 4),
        ("docs: mend the reader", {"finish_reason": "cancelled"}, 4),
        ("docs: mend the reader", {"finish_reason": "length", "reasoning_truncated": True}, 3),
        ("docs: mend\nthe reader", {}, 4),
        ("\n docs: mend the reader \n", {}, 5),
        ("docs: mend </answer> the reader", {}, 4),
        ("docs: mend <|im_end|>", {}, 4),
        ("a <b> tag and a | b", {}, 5),
        ("[title]", {}, 4),
        ("Your title here", {}, 4),
        ("<insert the commit message here>", {}, 4),
        ("...", {}, 4),
        ("Title generation for your answers", {}, 5),
        ("<answer>\n", {"finish_reason": "length"}, 2),
        ("", {}, 0),
        (" \n", {}, 0),
    ],
)
def test_format_is_graded(answer, fields, passed):
    assert term("format", answers(answer, **fields)) == [passed / 5]


def test_a_task_of_several_lines_may_have_them():
    assert term("format", answers("one\ntwo"), [replace(ASK, task="write")]) == [1.0]


def test_style_is_the_share_of_habits_kept_and_nothing_for_nothing():
    kept, lost, empty = term("style", answers("docs: mend the page", "Feature! A Much Longer Title, With Commas.", ""))
    assert kept == ASK.style.match("docs: mend the page") > lost
    assert empty == 0
    assert term("style", answers("anything"), [replace(ASK, style=Style())]) == [1.0]


def faithfulness(*lines):
    return term("faithfulness", [replace(ROLLOUT, reasoning=line) for line in lines])


def test_faithfulness_counts_true_claims():
    lines = ["[2] is closest. 4 words, lower case.", "[9] is closest. 4 words, lower case.", "[9] is best.", "", "so"]
    assert faithfulness(*lines) == pytest.approx([1, 2 / 3, 0, 0, 0])
    more = "About reader. [2] is closest. 4 words, lower case, no final period, ends with a question mark."
    assert faithfulness(more) == pytest.approx([5 / 6])
    assert faithfulness("About reader and ovens. [2] or [9] is closest. 4 words, 7 words.") == pytest.approx([0.5])


@pytest.mark.parametrize(
    "line",
    [
        "[1]",
        "[1] [2] [3]",
        "[1] " * 40,
        "4 words, 4 words, 4 words",
        "1 to 99 words, 2 to 99 words, 3 to 99 words, about 4 words",
        "About reader, loses, line, docs, mend",
        "lower case " * 9,
    ],
)
def test_faithfulness_is_not_had_for_saying_little(line):
    """Each is true, and none says more than one thing."""
    assert faithfulness(line) == pytest.approx([1 / 3])


def test_faithfulness_never_leaves_its_range():
    lines = [f"{a} {b}. {c}" for a in ("", "[1]", "[9]") for b in ("4 words", "9 words, a colon") for c in ("", a, b)]
    assert all(0 <= value <= 1 for value in faithfulness(*lines))


def test_the_examples_own_lines_are_wholly_faithful():
    """What small models imitate must not cost them anything."""
    from prlm_edge.profile import Profile
    from prlm_edge.style import example_line

    items = Profile.open(Path(__file__).parents[2] / "examples" / "me.jsonl").items
    of, shown = style_of([item.title for item in items]), []
    for number, item in enumerate(items, 1):
        line = example_line(number, item.title, item.text, shown[-4:], of)
        shown.append((number, f"{item.text} {item.title}"))
        ask = Ask(item.text, item.title, (), len(items), of, "title")
        assert term("faithfulness", [replace(ROLLOUT, reasoning=line, answer=item.title)], [ask]) == [1.0], line


def test_length_has_a_soft_band_of_the_users_own():
    low, _, high = ASK.style.fact("words").value
    assert (low, high) == (4, 4)
    words = [" ".join(["word"] * n) for n in (4, 2, 5, 6, 7, 40)] + [""]
    # below: n / low; above: the margin is max(3, 4 / 2) words
    assert term("length", answers(*words)) == pytest.approx([1, 0.5, 2 / 3, 1 / 3, 0, 0, 0])
    bare = replace(ASK, style=Style(), past=("one two", "one two three four"))
    assert term("length", answers("one", "one two three"), [bare] * 2) == [0.5, 1]
    unknown = replace(bare, past=())
    assert term("length", answers("whatever it is", ""), [unknown] * 2) == [1, 0]


def test_length_counts_the_reasoning_against_its_budget():
    batch = [replace(ROLLOUT, n_reasoning_tokens=n) for n in (0, 75, 80, 90, 100, 150)]
    cut = replace(ROLLOUT, reasoning_truncated=True)
    found = term("length", [*batch, cut], reasoning_budget=100)
    assert found == pytest.approx([1, 1, 0.9, 0.7, 0.5, 0.5, 0.5])
    assert term("length", [cut]) == [1]  # without a budget nothing is said of it


class ByLength:
    """A scorer as an app may bring its own: longer is better."""

    name, needs_logprobs = "length", False

    def __init__(self):
        self.calls = []

    def score(self, candidates, context):
        assert all(candidate.answer.strip() for candidate in candidates)
        self.calls.append((context.query, context.past, len(candidates)))
        return [len(candidate.answer) - 3 for candidate in candidates]


def test_personalization_asks_once_a_prompt_and_never_about_nothing():
    scorer = ByLength()
    batch = [
        *answers("abc", "", "abcde", prompt_id="a"),
        *answers("", " ", prompt_id="b"),
        *answers("x", prompt_id="c"),
    ]
    asks = [ASK] * 3 + [replace(ASK, query="b")] * 2 + [replace(ASK, query="c")]
    assert term("personalization", batch, asks, scorer=scorer, sigmoid=False) == [0, 0, 2, 0, 0, -2]
    assert scorer.calls == [(ASK.query, PAST, 2), ("c", PAST, 1)]
    squashed = term("personalization", batch, asks, scorer=scorer)
    assert squashed == pytest.approx([0.5, 0, 1 / (1 + math.exp(-2)), 0, 0, 1 / (1 + math.exp(2))])


def test_personalization_takes_the_runtimes_own_scorers():
    batch = answers("docs: mend it all", "Mend It!")
    wanted = [ASK.style.match(one.answer) for one in batch]
    assert term("personalization", batch, scorer=StyleMatch(), sigmoid=False) == wanted


def test_a_sigmoid_of_anything_is_finite():
    class Huge(ByLength):
        def score(self, candidates, context):
            return [-1e4, 1e4]

    assert term("personalization", answers("a", "b"), scorer=Huge()) == [0, 1]


def test_real_targets_earn_what_they_should():
    rouge_scorer = pytest.importorskip("rouge_score.rouge_scorer")
    if not SAMPLE.is_dir():
        pytest.skip("shared/data is not here")
    from prlm_edge import tasks
    from prlm_edge.evaluate.data import load

    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"])
    compared = 0
    for file in sorted(SAMPLE.glob("*_*.sample20.jsonl")):
        asks, good, bad = [], [], []
        for row in load(file).rows:
            task = tasks.get_task(row.task)
            past = tuple(task.answer_of(item) for item in task.examples(row.profile))
            asks.append(Ask(row.query, row.target, past[:4], 4, style_of(past), row.task))
            target = " ".join(row.target.split())
            good.append(replace(ROLLOUT, prompt_id=row.id, answer=target))
            bad.append(replace(ROLLOUT, prompt_id=row.id, answer=row.query, finish_reason="length"))
        weights = dict.fromkeys(("accuracy", "format", "style", "length"), 1.0)
        for name, one in make_terms(weights).items():
            ours, theirs = one(good, asks), one(bad, asks)
            assert np.mean(ours) > np.mean(theirs), (file.name, name)
            assert min(*ours, *theirs) >= 0
            assert max(*ours, *theirs) <= (3 if name == "accuracy" else 1)
        assert make_terms({"format": 1.0})["format"](good, asks) == [1.0] * len(asks)
        for ask, rollout, found in zip(asks, bad, make_terms({"accuracy": 1})["accuracy"](bad, asks), strict=True):
            if (ask.target + rollout.answer).isascii():
                wanted = scorer.score(ask.target, rollout.answer)
                assert found == pytest.approx(sum(score.fmeasure for score in wanted.values()))
                compared += 1
    assert compared >= 40


@pytest.mark.parametrize(
    ("weights", "message", "hint"),
    [
        ({"acuracy": 1.0}, "'acuracy'", "did you mean accuracy?"),
        ({"zzz": 1.0}, "'zzz'", "there are: accuracy, format"),
        ({"accuracy": math.nan}, "accuracy is nan", "number"),
        ({"accuracy": 0.0, "format": 0}, "no reward term has a weight", "accuracy"),
        ({}, "no reward term has a weight", "accuracy"),
        ({"accuracy": 1, "personalization": 0.5}, "needs a reward model", "train one"),
    ],
)
def test_wrong_terms_are_refused(weights, message, hint):
    with pytest.raises(ConfigError) as caught:
        make_terms(weights)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_terms_keep_their_order_whatever_the_weights_order():
    assert list(make_terms({"length": 0.0, "format": 1, "accuracy": 2})) == ["accuracy", "format", "length"]


@pytest.mark.parametrize(
    ("opening", "text", "wanted"),
    [
        ("<think>", "why</think>\n<answer>it</answer>", ("why", "it")),
        ("<answer>", "it</answer>", ("", "it")),
        ("", "it", ("", "it")),
        ("<think>", "why it goes on", ("why it goes on", "")),
        ("<think>", "why</think> it < that", ("why", "it < that")),
    ],
)
def test_completions_are_split(opening, text, wanted):
    assert splitter(opening)(text) == wanted


WEIGHTS = {"accuracy": 1.0, "format": 0.5}


def reward_funcs(**options):
    given = {"group_size": 2, "split": splitter("<think>"), "count": lambda text: len(text.split()), **options}
    return as_trl_reward_funcs(make_terms(WEIGHTS), WEIGHTS, {"p": ASK, "q": replace(ASK, target="x y")}, **given)


def test_trl_functions_have_its_signature_and_score_a_batch_once():
    seen, logged = [], {}
    accuracy, form = reward_funcs(seen=lambda *batch: seen.append(batch), stop_ids=(2,))
    assert (accuracy.__name__, form.__name__) == ("accuracy", "format")
    good = "[1] fits</think>\n<answer>docs: mend the reader</answer>"
    batch = {
        "prompts": ["P", "P", "Q", "Q"],
        "completions": [good, "it never ends", "a</think>x y", [{"role": "assistant", "content": "a</think>x y"}]],
        "completion_ids": [[5, 6], [5, 6], [5, 2], [5, 6]],
        "prompt_id": ["p", "p", "q", "q"],
        "log_metric": logged.__setitem__,
        "log_extra": None,
    }
    assert accuracy(**batch) == pytest.approx([3, 0, 3, 3])
    assert form(**batch) == [1, 0, 1, 0.8]
    assert len(seen) == 1  # not once a term
    rollouts, asks, terms = seen[0]
    assert rollouts[0] == Rollout("p", "[1] fits", "docs: mend the reader", "stop", False, 2, 4)
    assert rollouts[1] == Rollout("p", "it never ends", "", "length", True, 3, 0)
    assert [one.finish_reason for one in rollouts] == ["stop", "length", "stop", "length"]
    assert asks[2].target == "x y"
    assert terms["accuracy"].tolist() == pytest.approx([3, 0, 3, 3])
    assert logged == {
        "zero_variance": 0.0,  # the second group differs in its format
        "non_finite": 0.0,
        "truncated": 0.5,
        "reasoning_tokens": 7 / 4,
        "answer_tokens": 2.0,
    }


def test_rollouts_that_come_apart_are_taken_as_they_are():
    accuracy, form = reward_funcs()
    columns = {
        "reasoning": ["r", "r"],
        "answer": ["docs: mend the reader", "docs: mend"],
        "finish_reason": ["stop", "length"],
        "reasoning_truncated": [False, True],
        "n_reasoning_tokens": [1, 9],
        "n_answer_tokens": [5, 3],
    }
    given = {"prompts": ["P"] * 2, "completions": ["?", "?"], "completion_ids": [[1], [1]], "prompt_id": ["p"] * 2}
    assert accuracy(**given, **columns)[0] == 3
    assert form(**given, **columns) == [1, 0.6]


def test_a_reward_that_is_no_number_is_told():
    class Broken(ByLength):
        def score(self, candidates, context):
            return [math.nan, *[1.0] * (len(candidates) - 1)]

    logged = {}
    terms = make_terms({"personalization": 1.0}, scorer=Broken(), sigmoid=False)
    (reward,) = as_trl_reward_funcs(
        terms, {"personalization": 1.0}, {"p": ASK}, group_size=4, split=splitter(), count=len
    )
    reward(["P"] * 4, list("abcd"), [[1]] * 4, prompt_id=["p"] * 4, log_metric=logged.__setitem__)
    assert logged["non_finite"] == 0.25


def test_prompts_that_nobody_knows_are_an_error():
    accuracy, _ = reward_funcs()
    with pytest.raises(PrlmError, match="no column 'prompt_id'"):
        accuracy(["P"], ["a"], [[1]])
    with pytest.raises(PrlmError, match="nothing is known of prompt 'r'"):
        accuracy(["P"], ["b"], [[1]], prompt_id=["r"])
