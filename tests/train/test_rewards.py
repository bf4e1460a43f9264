"""Reward terms on hand-computed cases and real rows, and what TRL is given of them."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from evaluation import shared

from prlm_edge.errors import ConfigError
from prlm_edge.rerank.scorers import StyleMatch
from prlm_edge.style import Style, style_of
from prlm_edge.train.grpo.terms import make_terms
from prlm_edge.train.grpo.to_trl import Exchange, zero_variance
from prlm_edge.train.types import Ask, Rollout
from prlm_edge.types import Candidate, Hit, Item, Request, Scoring

PAST = ("docs: mend the index", "docs: mend the parser", "docs: name the reader")
SCORING = Scoring("the reader loses a line", "commit", style_of(PAST), past=PAST)
ASK = Ask("p", Request(()), (1, 2), SCORING, "docs: mend the reader")


def asking(id="p", target=ASK.target, **scoring):
    return Ask(id, ASK.request, ASK.ids, replace(SCORING, **scoring), target)


def answers(*texts, ask=ASK, n_reasoning=0, **fields):
    return [Rollout(ask, Candidate(text, **fields), n_reasoning=n_reasoning, n_answer=6) for text in texts]


def term(name, rollouts, **options):
    return make_terms({name: 1.0}, **options)[name](rollouts)


def test_accuracy_by_hand():
    found = term("accuracy", answers("a b d", "a b c", "x y z", "", ask=asking(target="a b c")))
    # of three words two are shared, of two pairs one, and the longest common run is "a b"
    assert found == pytest.approx([2 / 3 + 1 / 2 + 2 / 3, 3, 0, 0])


def test_accuracy_sees_other_scripts():
    ask = asking(target="Μια σύντομη ιστορία")
    assert term("accuracy", answers("μια σύντομη ιστορία", "άλλο", ask=ask)) == [3, 0]


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
    assert term("format", answers("one\ntwo", ask=asking(task="write"))) == [1.0]


def test_style_is_the_share_of_habits_kept_and_nothing_for_nothing():
    kept, lost, empty = term("style", answers("docs: mend the page", "Feature! A Much Longer Title, With Commas.", ""))
    assert kept == SCORING.style.match("docs: mend the page") > lost
    assert empty == 0
    assert term("style", answers("anything", ask=asking(style=Style()))) == [1.0]


def faithfulness(*lines):
    return term("faithfulness", [one for line in lines for one in answers(ASK.target, reasoning=line)])


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
        ask = asking(query=item.text, past=("",) * len(items), style=of, task="title")
        assert term("faithfulness", answers(item.title, ask=ask, reasoning=line)) == [1.0], line


CHANGE = "Changed files: src/cache.py, tests/test_cache.py\n\n- return lru_cache(size)\n+ return TTLCache(maxsize)"
BREAD = Hit(Item("1", "Why Anna's 3 starters sour in July.", "notes on sour starters"), 1.0)


@pytest.mark.parametrize(
    ("shape", "task", "query", "answer", "no_echo", "no_invention"),
    [
        ("topic", "title", "winter sourdough, rye", "Winter sourdough: rye", 0, 1),
        ("topic", "title", "winter sourdough, rye", "A cold kitchen and rye", 1, 1),
        ("topic", "title", "winter sourdough, rye", "What rye teaches in Winnipeg", 1, 0),
        ("topic", "title", "winter sourdough, rye", "What Anna knows of rye", 1, 1),  # a past item has the name
        ("topic", "title", "winter sourdough, rye", "Notes on the sour starters!", 0, 1),  # a past title again
        ("topic", "title", "winter sourdough, rye", " ", 0, 0),
        ("topic", "commit", "drop lru_cache", "drop lru_cache", 1, 1),  # a commit may say what its request does
        ("text", "title", "I bake rye in winter.", "I bake rye in winter", 1, 1),
        ("text", "title", "I bake rye in winter.", "rye, 4 loaves", 1, 0),
        ("text", "title", "I bake rye in winter.", "rye, 3 loaves", 1, 1),
        ("change", "commit", CHANGE, "cache: use TTLCache", 1, 1),
        ("change", "commit", CHANGE, "cache: use RedisCache", 1, 0),
        ("change", "commit", CHANGE, "test_cache: notes on sour starters", 1, 1),
        ("change", "commit", CHANGE, "notes on sour starters", 0, 1),
    ],
)
def test_what_people_cannot_stand_costs(shape, task, query, answer, no_echo, no_invention):
    ask = asking(query=query, task=task, shape=shape, used=(BREAD,), past=(BREAD.item.title,))
    found = [term(name, answers(answer, ask=ask)) for name in ("no_echo", "no_invention")]
    assert found == [[no_echo], [no_invention]]


def test_length_has_a_soft_band_of_the_users_own():
    low, _, high = SCORING.style.fact("words").value
    assert (low, high) == (4, 4)
    words = [" ".join(["word"] * n) for n in (4, 2, 5, 6, 7, 40)] + [""]
    # below: n / low; above: the margin is max(3, 4 / 2) words
    assert term("length", answers(*words)) == pytest.approx([1, 0.5, 2 / 3, 1 / 3, 0, 0, 0])
    bare = asking(style=Style(), past=("one two", "one two three four"))
    assert term("length", answers("one", "one two three", ask=bare)) == [0.5, 1]
    assert term("length", answers("whatever it is", "", ask=asking(style=Style(), past=()))) == [1, 0]


def test_length_counts_the_reasoning_against_its_budget():
    batch = [one for n in (0, 75, 80, 90, 100, 150) for one in answers(ASK.target, n_reasoning=n)]
    cut = answers(ASK.target, reasoning_truncated=True)
    found = term("length", batch + cut, reasoning_budget=100)
    assert found == pytest.approx([1, 1, 0.9, 0.7, 0.5, 0.5, 0.5])
    assert term("length", cut) == [1]  # without a budget nothing is said of it


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
        *answers("abc", "", "abcde", ask=asking("a")),
        *answers("", " ", ask=asking("b", query="b")),
        *answers("x", ask=asking("c", query="c")),
    ]
    assert term("personalization", batch, scorer=scorer, sigmoid=False) == [0, 0, 2, 0, 0, -2]
    assert scorer.calls == [(SCORING.query, PAST, 2), ("c", PAST, 1)]
    squashed = term("personalization", batch, scorer=scorer)
    assert squashed == pytest.approx([0.5, 0, 1 / (1 + math.exp(-2)), 0, 0, 1 / (1 + math.exp(2))])


def test_personalization_takes_the_runtimes_own_scorers():
    batch = answers("docs: mend it all", "Mend It!")
    wanted = [SCORING.style.match(one.said.answer) for one in batch]
    assert term("personalization", batch, scorer=StyleMatch(), sigmoid=False) == wanted


def test_a_sigmoid_of_anything_is_finite():
    class Huge(ByLength):
        def score(self, candidates, context):
            return [-1e4, 1e4]

    assert term("personalization", answers("a", "b"), scorer=Huge()) == [0, 1]


def test_real_targets_earn_more_than_the_request_does():
    from prlm_edge import tasks
    from prlm_edge.evaluate.data import load

    weights = dict.fromkeys(("accuracy", "format", "style", "length"), 1.0)
    for task in ("acl_title", "commit_subject", "release_note"):
        good, bad = [], []
        for row in load(shared("sample", f"{task}.sample20.jsonl")).rows:
            of = tasks.get_task(row.task)
            past = tuple(of.answer_of(item) for item in of.examples(row.profile))
            ask = asking(row.id, row.target, query=row.query, task=row.task, style=style_of(past), past=past[:4])
            good += answers(" ".join(row.target.split()), ask=ask)
            bad += answers(row.query, ask=ask, finish_reason="length")
        for name, one in make_terms(weights).items():
            ours, theirs = one(good), one(bad)
            assert np.mean(ours) > np.mean(theirs), (task, name)
            assert 0 <= min(*ours, *theirs) <= max(*ours, *theirs) <= (3 if name == "accuracy" else 1)
        assert term("format", good) == [1.0] * len(good)


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


# --- what TRL is given


class Drawer:
    """Says what it is told to, and notes what was asked."""

    def __init__(self, *found):
        self.found, self.asked = found, []

    def load(self, policy):
        self.policy = policy

    def draw(self, asks, salt):
        self.asked.append(([one.id for one in asks], salt))
        return list(self.found)


TRAINER = SimpleNamespace(
    model="m", accelerator=SimpleNamespace(unwrap_model=str.upper), state=SimpleNamespace(global_step=3)
)


def exchange(drawer, weights, terms=None, seen=lambda *_: None):
    return Exchange(drawer, {"p": ASK, "q": asking("q")}, terms or make_terms(weights), weights, 2, seen)


def test_trl_carries_ids_and_a_batch_is_scored_once():
    good, cut = answers(ASK.target, ask=ASK), answers("x", ask=asking("q"), finish_reason="length", n_reasoning=4)
    good = [replace(one, ids=(5, 6), logprobs=(0.0, -1.5), drawn=(False, True)) for one in good]
    drawer, seen, logged = Drawer(*good, *good, *cut, *good), [], {}
    link = exchange(drawer, {"accuracy": 1.0, "format": 0.5}, seen=lambda *batch: seen.append(batch))
    columns = link.draw(["p", "p", "q", "q"], TRAINER)
    assert (drawer.policy, drawer.asked) == ("M", [(["p", "p", "q", "q"], "3")])
    assert columns["prompt_ids"] == [[1, 2]] * 4
    assert columns["completion_ids"] == [[5, 6], [5, 6], [], [5, 6]]
    assert (columns["logprobs"][0], columns["env_mask"][0]) == ([0.0, -1.5], [0, 1])
    assert len(set(columns["rollout"])) == 4
    accuracy, form = link.rewards
    assert (accuracy.__name__, form.__name__) == ("accuracy", "format")
    given = {"rollout": columns["rollout"], "prompts": ["p"] * 4, "log_metric": logged.__setitem__}
    assert accuracy(**given) == [3, 3, 0, 3]
    assert form(**given) == [1, 1, 0.8, 1]
    assert form(**given | {"rollout": columns["rollout"][1:3]}) == [1, 0.8]  # in TRL's order, whatever that is
    ((rollouts, terms),) = seen  # not once a term
    assert rollouts == list(drawer.found) and terms["accuracy"].tolist() == [3, 3, 0, 3]
    assert logged == {
        "zero_variance": 0.5,
        "non_finite": 0.0,
        "truncated": 0.25,
        "reasoning_tokens": 1.0,
        "answer_tokens": 6.0,
    }
    link.draw(["p"] * 4, TRAINER)
    accuracy(**given | {"rollout": columns["rollout"]})
    assert len(seen) == 2


def test_a_reward_that_is_no_number_is_told():
    class Broken(ByLength):
        def score(self, candidates, context):
            return [math.nan, *[1.0] * (len(candidates) - 1)]

    logged, weights = {}, {"personalization": 1.0}
    link = exchange(Drawer(*answers(*"abcd")), weights, make_terms(weights, scorer=Broken(), sigmoid=False))
    columns = link.draw(["p"] * 4, TRAINER)
    link.rewards[0](rollout=columns["rollout"], log_metric=logged.__setitem__)
    assert logged["non_finite"] == 0.25


def test_zero_variance_is_the_share_of_groups_without_a_signal():
    terms = {"a": [1, 1, 2, 3, 4, 4, 5, 5], "b": [0, 0, 7, 7, 1, 1, 1, 2]}
    assert zero_variance(terms, {"a": 1, "b": 1}, 2) == 0.5
    assert zero_variance(terms, {"a": 1, "b": 0}, 2) == 0.75  # a term of no weight is no signal
    assert zero_variance({"a": [0.1 + 0.2, 0.3, 1, 1]}, {"a": 1}, 4) == 0
    assert zero_variance({"a": [0.1 + 0.2, 0.3]}, {"a": 1}, 2) == 1  # rounding is none
    assert zero_variance({"a": [np.nan, np.nan, 1, 2]}, {"a": 1}, 2) == 0.5
