"""Style facts: what is seen, what becomes a fact, and that every fact is true of the texts it came from."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from titles import odd_titles

from prlm_edge.style import TRAITS, Style, content_words, counts, observe, style_of
from prlm_edge.style.counts import MIN_GAIN, STEADY

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "sample"
titles = odd_titles("fix:|the|on|ÜBER|#tag|“so”|a, b|🍞|`code`|Adds|...|?|!|:|fixed| - |&|Re:|(again)")


@pytest.mark.parametrize(
    ("text", "traits"),
    [
        ("bread: it rose", {"case:lower", "start:lower", "tag:word", "colon:yes", "period:no", "end:none"}),
        ("Fix the GPU crash", {"case:sentence", "verb:imperative", "colon:no"}),
        ("Attention Is All You Need", {"case:title"}),
        ("A Survey of Bread and Its Makers", {"case:title"}),
        ("Notes from Oslo by train", {"case:sentence"}),
        ("BREAKING NEWS", {"case:capitals"}),
        ("iPhone repair, again", {"start:lower", "comma:yes"}),
        ("feat(api)!: drop v1", {"tag:scope", "verb:imperative", "parentheses:yes", "number:yes", "case:lower"}),
        ("[nova] Fixes a race.", {"tag:bracket", "verb:third", "end:period", "case:sentence"}),
        ("docs: Added a page", {"tag:word", "case:sentence", "verb:past"}),
        ("Why did “it” rise?", {"end:question", "period:no", "quotes:yes"}),
        ("Done!", {"end:exclamation"}),
        ("so …", {"end:ellipsis"}),
        ("He said 'stop.'", {"end:period"}),
        ("one — two", {"dash:yes"}),
        ("one - two", {"dash:yes"}),
        ("salt & pepper #food 🍞 `x`", {"ampersand:yes", "hashtag:yes", "emoji:yes", "code:yes"}),
        ("what i’ve learned", {"person:first"}),
        ("splitting wood", {"verb:ing"}),
        ("日本語のタイトル", {"colon:no", "period:no"}),
    ],
)
def test_traits_that_are_seen(text, traits):
    assert traits <= set(observe(text).traits)


@pytest.mark.parametrize(
    ("text", "absent"),
    [
        ("Soup: it is hot", "case:lower"),
        ("README: say why", "case:sentence"),
        ("docs: API", "case:capitals"),
        ("self-made bread", "dash:yes"),
        ("see https://example.org/x: nothing", "tag:word"),
        ("at 12:30 sharp", "tag:word"),
        ("winter swimming: again", "tag:word"),
        ("issue #4", "hashtag:yes"),
        ("Sourdough", "case:title"),
        ("日本語", "case:lower"),
        ("A", "case:capitals"),
        ("[draft]", "tag:bracket"),
        ("fix:", "tag:word"),
        ("inside out", "person:first"),
    ],
)
def test_traits_that_are_not_there(text, absent):
    assert absent not in observe(text).traits


def test_counts_and_words():
    seen = observe("  feat(api): Add  two things ")
    assert (seen.words, seen.tag, seen.first) == (4, "feat(api):", "add")
    assert observe(" \n") == observe("")
    assert observe("").words == 0
    assert content_words("The bread isn't in /usr/lib/bread.py, 2024") == ["bread", "usr", "lib", "bread"]


def facts(texts):
    return {fact.phrase: fact for fact in style_of(texts).facts}


def test_a_recognisable_writer():
    style = style_of(["fix: close the file", "docs: say why", "fix: open it again, later", "ci: run less", "fix: typo"])
    said = {fact.phrase: fact.share for fact in style.facts}
    assert said == {
        "lower case": 1.0,
        "one word and a colon first": 1.0,
        "2 to 5 words": 1.0,
        "no final period": 1.0,
    }
    assert style.recurring == (("fix", 3),)
    assert style.n == 5


def test_a_literal_tag_and_a_first_word_that_recur_are_facts():
    assert "tag 'docs:'" in facts(["docs: a page", "docs: a link", "docs: why", "docs: who", "docs: say", "ci: less"])
    assert "'notes' first" in facts(["notes on bread", "Notes on rye", "notes, mostly", "notes"])
    assert "says 'bread'" in facts(["my bread rose", "flat bread", "bread, again", "no bread today", "soup"])


def test_the_most_telling_come_first_and_the_obvious_last():
    order = [fact.phrase for fact in style_of(["[NET] ADD A LOCK!", "[NET] DROP A LOCK!", "[NET] MOVE IT!"]).facts]
    assert set(order[:3]) == {"tag '[NET]'", "all capitals", "ends with an exclamation mark"}
    names = ("bread", "rye", "steam", "salt")
    order = [fact.phrase for fact in style_of([f"the {name} that rose and then did not" for name in names]).facts]
    assert order[-1] == "no final period" and order.index("lower case") < order.index("no colon")


def test_few_texts_prove_little():
    assert style_of([]) == style_of(["", " \n"]) == Style()
    one = [fact.name for fact in style_of(["bread: it rose"]).facts]
    assert one == ["words"]
    two = [fact.phrase for fact in style_of(["bread: it rose", "rye: it did not"]).facts]
    assert "lower case" not in two and "no final period" in two
    assert "lower case" in facts(["bread: it rose", "rye: it did not", "salt: none"])
    assert "lower case" not in facts(["bread: it rose", "Rye: It Did Not", "salt: none", "Flour: Too Much"])


def test_match_is_the_share_of_facts_kept_weighted_by_steadiness():
    style = style_of(["bread: it rose", "rye: it did not", "salt: none at all", "oven: on"])
    assert style.match("soup: it is hot") == 1.0
    assert style.match("SOUP IS SERVED TO EVERYBODY WHO ASKS FOR IT.") == 0.0
    mixed = style.match("Soup: it is hot")
    assert 0.5 < mixed < 1.0
    assert Style().match("anything") == 1.0


def test_the_length_of_long_texts_is_told_too():
    assert "about 60 words" in facts(["word " * 60, "word " * 61, "word " * 59, "word " * 64])
    assert "5 to 60 words" in facts(["word " * 60, "word " * 5, "word " * 20])
    assert "about 1 word" in facts(["one", "two", "three"])


@given(st.lists(titles, max_size=12))
def test_every_fact_is_true_of_the_texts_it_came_from(texts):
    style = style_of(texts)
    kept = [text for text in texts if text.strip()]
    assert style.n == len(kept)
    for fact in style.facts:
        assert fact.n == len(kept)
        assert sum(fact.seen_in(observe(text), text) for text in kept) / len(kept) == pytest.approx(fact.share)
        assert fact.share >= STEADY - 0.1
    assert len({(fact.name, fact.value) for fact in style.facts}) == len(style.facts)
    for word, count in style.recurring:
        assert sum(word in content_words(text) for text in kept) == count >= 2
    for text in kept:
        assert 0 <= style.match(text) <= 1


@given(titles)
def test_looking_at_a_text_never_contradicts_itself(text):
    names = [trait.split(":")[0] for trait in observe(text).traits]
    assert len(names) == len(set(names)), "one value for each dimension"
    assert {"end", "colon"} <= set(names) or "colon" in names
    known = {trait.split(":")[0] for trait in TRAITS} | {"end"}
    assert set(names) <= known
    assert observe(f"  {text}\n") == observe(text)


@given(st.lists(titles, min_size=3, max_size=8))
def test_the_order_of_the_texts_does_not_matter(texts):
    assert style_of(texts) == style_of(texts[::-1])


def test_every_usual_share_can_be_a_share():
    assert all(0 < usual < 1 and phrase for phrase, usual in TRAITS.values())
    assert MIN_GAIN > 0


def test_each_text_is_observed_once(monkeypatch):
    observed = []
    monkeypatch.setattr(counts, "observe", lambda text: observed.append(text) or observe(text))
    texts = [f"fix: the {i} Loaves of Bread that Rose in April" for i in range(100)]
    assert style_of(texts).fact("tag").value == "fix:"
    assert observed == texts


def sample(task):
    path = DATA / f"{task}.sample20.jsonl"
    if not path.exists():
        pytest.skip("needs ../shared/data beside the repository")
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_facts_of_real_committers_hold_for_what_they_wrote_next():
    """The facts are worth something: a committer's next subject keeps more of them than another's subject does."""
    rows = sample("commit_subject")
    styles = [style_of([item["title"] for item in row["profile"]]) for row in rows]
    own = sum(style.match(row["target"]) for style, row in zip(styles, rows, strict=True)) / len(rows)
    others = [styles[i].match(rows[j]["target"]) for i in range(len(rows)) for j in range(len(rows)) if i != j]
    assert own > 0.75
    assert own > sum(others) / len(others) + 0.08
