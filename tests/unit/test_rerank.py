"""Scorers and ranking: what agreement, belief and style prefer, ties, unsound answers, plug-ins that misbehave."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_edge.errors import ConfigError, UsageError
from prlm_edge.rerank import SCORERS, different, flaw, make_scorer, rank, reasons
from prlm_edge.rerank.overlap import Counted, chrf, rouge, rouge_1, rouge_2, rouge_l, words
from prlm_edge.settings import DEFAULTS, KEYS, Settings, load_settings
from prlm_edge.style import Style, style_of
from prlm_edge.types import Candidate, Scorer, Scoring, Shape

PLAIN = Scoring("winter bread", "title", Style())
ODD = "a review of seven kettles"
ALIKE = ["slow bread in a cold kitchen", "bread in a cold kitchen", "slow bread, cold kitchen"]


def candidates(*answers: str) -> list[Candidate]:
    return [Candidate(answer, seed=i) for i, answer in enumerate(answers)]


def by(name: str) -> Scorer:
    return make_scorer(Settings(select=name))


def best(name: str, given: Sequence[Candidate], context: Scoring = PLAIN) -> Candidate:
    return rank(given, by(name), context)[0]


class Fixed:
    name = "fixed"
    needs_logprobs = False

    def __init__(self, *scores: float) -> None:
        self.scores = scores
        self.seen: list[str] = []

    def score(self, candidates: Sequence[Candidate], context: Scoring) -> Sequence[float]:
        self.seen = [candidate.answer for candidate in candidates]
        return self.scores


# -- ranking


def test_the_best_comes_first_and_of_equals_the_earliest() -> None:
    ranked = rank(candidates("a", "b", "c", "d"), Fixed(1, 3, 2, 3), PLAIN)
    assert [(one.answer, one.score) for one in ranked] == [("b", 3), ("d", 3), ("c", 2), ("a", 1)]


def test_unsound_answers_never_win_against_sound_ones() -> None:
    given = [
        Candidate("", seed=0),
        Candidate("cut at its lim", seed=1, finish_reason="length"),
        Candidate("whole", seed=2),
    ]
    scorer = Fixed(5.0, -5.0)
    ranked = rank(given, scorer, PLAIN)
    assert [one.seed for one in ranked] == [2, 1, 0]
    assert scorer.seen == ["cut at its lim", "whole"]  # nothing to score in an empty answer
    assert ranked[-1].score is None


def test_of_unsound_answers_alone_the_least_bad_is_kept() -> None:
    cut = [Candidate(text, seed=i, finish_reason="length") for i, text in enumerate(("x", "y"))]
    assert rank(cut, Fixed(1, 2), PLAIN)[0].answer == "y"
    assert rank(candidates("", ""), Fixed(), PLAIN)[0].seed == 0
    assert rank([], Fixed(), PLAIN) == ()


@pytest.mark.parametrize("scores", [(), (1.0,), (1.0, 2.0, 3.0), (float("nan"), 1.0), (1.0, float("inf"))])
def test_a_scorer_that_misbehaves_is_named(scores: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="fixed"):
        rank(candidates("a", "b"), Fixed(*scores), PLAIN)


def test_the_settings_know_every_scorer_and_a_wrong_name_is_answered_with_the_nearest() -> None:
    assert KEYS["select"].choices == tuple(SCORERS)
    assert DEFAULTS["select"] in SCORERS
    assert all(by(name).name == name for name in SCORERS)
    with pytest.raises(UsageError, match="concensus") as caught:
        by("concensus")
    assert "did you mean consensus?" in caught.value.hint


# -- agreement


def test_agreement_prefers_what_the_others_say() -> None:
    assert best("consensus", candidates(ODD, *ALIKE)).answer in ALIKE
    assert rank(candidates(*ALIKE, ODD), by("consensus"), PLAIN)[-1].answer == ODD


def test_equal_answers_vote_for_each_other_and_the_earliest_of_them_wins() -> None:
    chosen = best("consensus", candidates(ODD, "one thing", "another matter", "one thing", "one thing"))
    assert (chosen.answer, chosen.seed) == ("one thing", 1)
    ranked = rank(candidates("kettle", "kettle", "kettle"), by("consensus"), PLAIN)
    assert [(one.score, one.seed) for one in ranked] == [(1.0, 0), (1.0, 1), (1.0, 2)]


def test_scores_are_means_over_the_others() -> None:
    """The definition, written out."""
    given = candidates(*ALIKE, ODD, ALIKE[0])
    scores = by("consensus").score(given, PLAIN)
    for i, one in enumerate(map(Counted, (one.answer for one in given))):
        others = [Counted(other.answer) for j, other in enumerate(given) if j != i]
        mean = sum(rouge(one, other) + chrf(one, other) for other in others) / 2 / len(others)
        assert scores[i] == pytest.approx(mean)


@pytest.mark.parametrize("name", ["rouge", "chrf"])
def test_a_config_that_names_a_way_that_is_gone_is_told_what_replaces_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "more.toml").write_text(f'select = "{name}"\n')
    with pytest.raises(ConfigError, match=f"select can't be '{name}'") as caught:
        load_settings(config=tmp_path / "more.toml")
    assert "consensus does what rouge and chrf did" in caught.value.hint


def test_a_lone_candidate_is_chosen() -> None:
    assert best("consensus", candidates(ODD)).score == 0.0


def test_equal_answers_score_equal_to_the_last_bit_whatever_the_order() -> None:
    rng = random.Random(5)
    texts = [" ".join(rng.choices(["cold", "bread", "slow", "rye", "a", "of"], k=5)) for _ in range(9)]
    for _ in range(20):
        rng.shuffle(texts)
        given = candidates(*texts, texts[4])
        scores = by("consensus").score(given, PLAIN)
        assert scores[4] == scores[9]


# -- overlap in any script


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Rye wins: three_flours, 2x", ["rye", "wins", "three", "flours", "2x"]),
        ("Η ζωή στο χωριό", ["η", "ζωή", "στο", "χωριό"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("冬の bread", ["冬", "の", "bread"]),
        ("cafe\u0301 olé", ["café", "olé"]),
        ("🎉 — …", []),
    ],
)
def test_words_of_any_script(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_one_word_answers_that_agree_agree_wholly() -> None:
    assert rouge(Counted("kettle"), Counted("kettle")) == 1.0  # though there is no pair of words
    assert rouge(Counted("🎉"), Counted("🎉")) == chrf(Counted("🎉"), Counted("🎉")) == 1.0
    assert rouge(Counted("🎉"), Counted("🎂")) == chrf(Counted("🎉"), Counted("🎂")) == 0.0


@given(st.text(max_size=40), st.text(max_size=40))
def test_overlap_is_a_share(a: str, b: str) -> None:
    one, other = Counted(a), Counted(b)
    for measure in (rouge_1, rouge_2, rouge_l, rouge, chrf):
        assert 0.0 <= measure(one, other) <= 1.0
    assert rouge(one, other) == rouge(other, one)


@given(st.lists(st.sampled_from("abcd"), max_size=12), st.lists(st.sampled_from("abcd"), max_size=12))
def test_the_longest_common_subsequence_is_that_of_the_table(a: list[str], b: list[str]) -> None:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    expected = 2 * table[-1][-1] / (len(a) + len(b)) if table[-1][-1] else 0.0
    assert rouge_l(Counted(" ".join(a)), Counted(" ".join(b))) == pytest.approx(expected)


# -- belief and style


def test_belief_is_the_mean_log_probability() -> None:
    given = [Candidate("a", logprob=-2.0), Candidate("b", logprob=-0.5), Candidate("c", logprob=-1.0)]
    assert [one.answer for one in rank(given, by("logprob"), PLAIN)] == ["b", "c", "a"]


def test_belief_that_nobody_told_is_an_error_and_no_guess() -> None:
    with pytest.raises(UsageError, match="log-probabilities"):
        best("logprob", [Candidate("a", logprob=-1.0), Candidate("b")])


def test_style_prefers_what_the_user_would_write() -> None:
    titles = ["rye wins: three flours", "rain again: a drain", "wheels: true by ear", "kayaks: wet knees"]
    context = Scoring("bread", "title", style_of(titles))
    given = candidates("An Exploration Of Bread.", "bread: slow and cold", "Bread In Winter!")
    assert best("style", given, context).answer == "bread: slow and cold"


def test_without_habits_style_keeps_the_first() -> None:
    assert best("style", candidates("b", "a")).answer == "b"


# -- merits


@pytest.mark.parametrize(
    ("shape", "query", "answer", "flawed"),
    [
        ("topic", "winter sourdough", "Winter sourdough", True),
        ("topic", "winter sourdough", "a winter sourdough.", True),
        ("topic", "winter sourdough", "my post on Winter Sourdough", True),
        ("topic", "Perl, Git", "Perl Git", True),
        ("topic", "swimming in january", "january: swimming in January", True),
        ("topic", "winter sourdough", "winter sourdough: slow", False),
        ("topic", "Rust", "Why Rust is slow", False),
        ("topic", "use it", "do not use it", False),
        ("topic", "repairing bicycles", "Bicycles, repaired", True),
        ("topic", "зимний хлеб", "Зимний хлеб.", True),
        ("text", "winter sourdough", "winter sourdough", False),
        ("change", "oven.py: hotter", "oven.py: hotter", False),
        ("text", "a long draft", "Rye wins: three flours", True),
        ("topic", "rye", "rye wins, three flours", True),
        ("topic", "rye", "rye has won three flours", False),
        ("topic", "rye", "the rye wins three of the flours", True),
        ("topic", "rye", "rye wins: four flours", False),
        ("topic", "rye", "...", False),
    ],
)
def test_the_topic_again_and_a_past_text_again_are_no_answers(
    shape: Shape, query: str, answer: str, flawed: bool
) -> None:
    context = Scoring(query, "title", style_of(()), past=("rye wins: three flours", "?!"), shape=shape)
    assert bool(flaw(answer, context)) == flawed
    told = replace(context, task="commit", past=())
    assert flaw(answer, told) == ""
    good, cut = Candidate("the oven", logprob=-9.0), Candidate("half a", finish_reason="length")
    ranked = rank([cut, Candidate(answer), good], Fixed(3, 2, 1), context)
    assert (ranked[0] is not good and ranked[0].answer == answer) == (not flawed)
    assert ranked[-1].answer == "half a"


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("Winter bread", "winter bread.", True),
        ("winter bread", '"Winter Bread"', True),
        ("the book sale: i bought most of it", "a book sale: i bought it", True),
        ("the library book sale: i bought most of it", "the book sale: i bought most of it", True),
        ("docs: fix a typo in the oven guide", "docs: fix a typo in the kettle guide", False),
        ("use the cache", "do not use the cache", False),
        ("release 1.2", "release 1.3", False),
        ("the", "a", False),
        ("?", "?", True),
        ("?", "!", False),
    ],
)
def test_alike_answers_are_folded(one: str, other: str, alike: bool) -> None:
    kept = different(candidates(one, "", other, "something else"), 9)
    assert [candidate.seed for candidate in kept] == ([0, 3] if alike else [0, 2, 3])
    assert different(candidates(one, other), 1)[0].answer == one


def test_reasons_name_habits_and_flaws() -> None:
    style = style_of([f"oven: part {n}, again and again" for n in range(6)])
    context = Scoring("bread", "title", style, past=("oven: bread",), shape="topic")
    kept, broken, echo = (reasons(text, context) for text in ("oven: part 3, again and again", "Bread Now.", "bread"))
    assert len(kept) == 1
    assert kept[0].startswith("keeps: ")
    assert any(said.startswith("breaks: ") and "(it has 2)" in said for said in broken)
    assert echo[0] == "says the request again"
    assert reasons("", context) == ("is empty",)
    assert reasons("anything", Scoring("bread", "title", style_of(()))) == ()
