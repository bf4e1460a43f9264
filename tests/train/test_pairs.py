"""Preference pairs: each kind says what it should, nothing is left to chance, a run's answers are read with care."""

import subprocess
import sys
from dataclasses import replace
from random import Random

import pytest

from prlm_edge.errors import UsageError
from prlm_edge.evaluate.records import Answer, Row
from prlm_edge.style import Fact, Style, style_of
from prlm_edge.train.config import RewardConfig
from prlm_edge.train.reward import broken, pairs
from prlm_edge.train.reward.contexts import Contexts
from prlm_edge.train.reward.pairs import generated_of, make_pairs
from prlm_edge.types import Item

KINDS = RewardConfig().kinds
TOPICS = ["parser", "network", "index", "cache"]


def rows(n=8):
    """Users who write "docs: ..." in lower case or "Mend ..." with a period, on one of four topics, in two domains."""
    made = []
    for user in range(n):
        topic, domain = TOPICS[user % 4], f"repo{user % 2}"

        def title(i, user=user, topic=topic):
            return f"docs: explain {topic} step {user}{i}" if user < n // 2 else f"Mend {topic} step {user}{i} at last."

        def text(i, user=user, topic=topic):
            return f"Changed files: {topic}/{user}{i}.py\n\nThe {topic} lost its step {user}{i}."

        profile = tuple(Item(f"u{user}-{i}", text(i), title(i), f"2024-0{i + 1}-01") for i in range(6))
        made.append(Row(f"u{user}/q", f"u{user}", "commit", text(7), title(7), profile, "2024-09-01", domain))
    return made


def generated(of):
    return {
        "zero_shot": {row.id: [f"Update {row.id}", row.target.upper()] for row in of},
        "other_profile": {row.id: [f"[misc] change {row.id}"] for row in of},
        "own": {row.id: [row.target, "Something else entirely", "docs: explain"] for row in of},
    }


def made(kind, of=None, **options):
    of = of or rows()
    return make_pairs(of, RewardConfig(kinds=(kind,), **options), generated(of)).pairs


def test_a_pair_of_each_kind_and_row():
    of = rows()
    found = make_pairs(of, RewardConfig(), generated(of))
    assert [pair.kind for pair in found.pairs[: len(KINDS)]] == list(KINDS)
    assert len(found.pairs) == len(KINDS) * len(of)
    assert not found.skipped
    assert all(pair.chosen == next(row.target for row in of if row.id == pair.row) for pair in found.pairs)
    assert "8 zero_shot" in found.say()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("swap")])
def test_a_negative_is_never_what_the_user_wrote(kind):
    for pair in made(kind, per_kind=3):
        assert pair.rejected.strip()
        assert pair.rejected != pair.chosen
        assert pair.other is pair.context
        if kind != "style":
            assert broken.plain(pair.rejected) != broken.plain(pair.chosen)


def test_the_past_is_what_the_runtime_would_show():
    pair = made("style")[0]
    assert len(pair.context.past) == 4
    assert pair.context.past == tuple(hit.item.title for hit in pair.context.used)
    assert {"docs:"} == {fact.value for fact in pair.context.style.facts if fact.name == "tag"}


def test_style_broken_copies_keep_fewer_habits():
    for pair in made("style", per_kind=4):
        assert pair.context.style.match(pair.rejected) < pair.context.style.match(pair.chosen)


def test_every_way_to_break_a_style_is_taken():
    style = style_of(["docs: explain the parser", "docs: explain the cache", "docs: explain the index"])
    copies = {
        broken.break_style("docs: explain the net", style, "the net is new and large", Random(i)) for i in range(99)
    }
    assert {"DOCS: EXPLAIN THE NET", "explain the net", "docs: explain the net.", "docs:"} <= copies
    assert any(copy.startswith("docs: explain the net the net is new") for copy in copies)


def test_a_text_without_habits_is_broken_all_the_same():
    copy = broken.break_style("abc", style_of([]), "q", Random(0))
    assert copy is not None
    assert copy != "abc"


def test_where_no_way_breaks_a_habit_there_is_no_copy():
    style = Style((Fact("words", (1, 5, 99), 1.0, 3, "1 to 99 words"),), 3)
    assert broken.break_style("mend the net", style, "the net is new", Random(0)) is None


def test_degenerate_texts_are_of_many_kinds():
    texts = {broken.say_nothing("docs: explain the net", ["docs: past"], "the request", Random(i)) for i in range(200)}
    assert {"docs: past", "the request", "Your title here", "..."} <= texts
    assert any(len(text.split()) > 50 for text in texts)
    assert "docs: explain the net" not in texts


def test_swapped_pairs_differ_in_the_profile_alone():
    of = {row.id: row for row in rows()}
    for kind in ("swap", "swap_near"):
        for pair in made(kind):
            assert pair.rejected == pair.chosen
            assert pair.other.query == pair.context.query
            assert set(pair.other.past).isdisjoint(item.title for item in of[pair.row].profile)
            owner = next(row for row in of.values() if pair.other.past[0] in {item.title for item in row.profile})
            assert (owner.domain == of[pair.row].domain) == (kind == "swap_near")


def test_without_domains_near_is_who_wrote_on_the_topic():
    of = [Row(r.id, r.user, r.task, r.query, r.target, r.profile) for r in rows()]
    for pair, row in zip(made("swap_near", of), of, strict=True):
        topic = TOPICS[int(row.user[1:]) % 4]
        assert any(topic in title for title in pair.other.past)


def test_co_authors_are_no_strangers():
    of = rows(4)
    shared = of[0].profile[0]
    of[1] = Row(of[1].id, "u1", "commit", of[1].query, of[1].target, (*of[1].profile, shared), "", "repo1")
    contexts = Contexts(of, 4, 0)
    assert "u1" not in {row.user for row in contexts.strangers(of[0])}
    assert "u3" in {row.user for row in contexts.strangers(of[0])}
    assert shared.title not in set(contexts.neighbours(of[0]))


def test_users_of_several_domains_are_near_in_each_and_strangers_in_none_of_them():
    of = rows()
    of.append(replace(of[0], id="u0/2", domain="repo1"))  # a domain that u0's first row does not name
    of.append(replace(of[1], id="u1/2", domain="elsewhere"))
    contexts = Contexts(of, 4, 0)
    assert {row.user for row in contexts.near(of[-2])} == {"u1", "u3", "u5", "u7"}
    assert list(contexts.near(of[-1])) == []
    assert "u0" not in {row.user for row in contexts.strangers(of[3])}


def test_a_neighbour_wrote_on_the_same_topic():
    for pair, row in zip(made("neighbour"), rows(), strict=True):
        assert TOPICS[int(row.user[1:]) % 4] in pair.rejected
        assert pair.rejected not in {item.title for item in row.profile}


def test_the_papers_pairs_see_no_profile():
    of = rows()
    found = make_pairs(of, RewardConfig(kinds=("paper",)), generated(of)).pairs
    assert len(found) == len(of)
    for pair in found:
        assert pair.chosen in generated(of)["own"][pair.row]
        assert pair.rejected in generated(of)["zero_shot"][pair.row]
        assert not pair.context.past and not pair.context.style.facts and not pair.other.past


def test_the_seed_decides_everything():
    of = rows()
    first, again = (make_pairs(of, RewardConfig(), generated(of), seed=1).pairs for _ in range(2))
    assert first == again
    assert first != make_pairs(of, RewardConfig(), generated(of), seed=2).pairs


def test_the_hash_seed_decides_nothing():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_pairs import *\n"
        "for p in make_pairs(rows(), RewardConfig(), generated(rows())).pairs: print(p.kind, p.rejected, p.other.past)"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", code, __file__.rpartition("/")[0]],
            env={"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert said[0] == said[1]
    assert len(said[0]) > 1000


def test_users_without_a_past_are_counted():
    of = [*rows(), Row("new/q", "new", "commit", "text", "title", (), "", "repo0")]
    found = make_pairs(of, RewardConfig(kinds=("style",)))
    assert found.skipped == {"no past writing": 1}
    assert len(found.pairs) == 8


def test_one_user_alone_has_no_neighbour():
    found = make_pairs(rows()[:1], RewardConfig(kinds=("neighbour", "swap", "swap_near")))
    assert not found.pairs
    assert found.skipped == {"neighbour": 1, "swap": 1, "swap_near": 1}


@pytest.mark.parametrize("kind", ["zero_shot", "other_profile", "paper"])
def test_kinds_that_need_the_models_answers_are_refused_without(kind):
    with pytest.raises(UsageError, match=f"kind {kind} need answers"):
        make_pairs(rows(), RewardConfig(kinds=(kind,)))


def test_all_answers_of_runs_count_once():
    answers = [
        Answer("zero_shot", "a", "u", "q", "t", "one"),
        Answer("zero_shot", "a", "u", "q", "t", "two", candidates=({"answer": "two"}, {"answer": "three"})),
        Answer("zero_shot", "b", "u", "q", "t", "  "),
        Answer("own", "a", "u", "q", "t", "mine"),
        Answer("own", "a", "u", "q", "t", "mine", candidates=({"answer": "yours"},)),
    ]
    found = {"zero_shot": {"a": ["one", "two", "three"], "b": []}, "own": {"a": ["mine", "yours"]}}
    assert generated_of(answers) == found


def test_kinds_are_documented():
    assert all(f"\n    {kind} " in pairs.__doc__ for kind in (*KINDS, "paper"))
