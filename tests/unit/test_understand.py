"""What a request is taken for: its task, what it is about, in which shape, and the kind of writing it names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prlm_edge.tasks import get_task
from prlm_edge.types import Item
from prlm_edge.writer import understand

DIFF = "diff --git a/a.py b/a.py\n--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-x = 1\n+x = 2\n"
CHANGE = "Changed files: a.py\n\n- x = 1\n+ x = 2"
DRAFT = "It rose.\n\nThen it rose again, and I wrote down the time."
LONG = "word " * 31

pytestmark = pytest.mark.usefixtures("home")


@pytest.mark.parametrize(
    ("asked", "topic", "kind"),
    [
        ("my post on winter sourdough", "winter sourdough", "post"),
        ("My post about café life", "café life", "post"),
        ("  my   post on\twinter sourdough ", "winter sourdough", "post"),
        ("a talk about winter sourdough", "winter sourdough", "talk"),
        ("a 20-minute lightning talk about rye", "rye", "talk"),
        ("the release where the index got faster", "the index got faster", ""),
        ("the release in which dark mode arrives", "dark mode arrives", ""),
        ("an article on how we moved to Rust", "how we moved to Rust", "article"),
        ("an essay about why I walk", "why I walk", "essay"),
        ("blog post: the harbour bench", "the harbour bench", "post"),
        ("Post: the harbour bench", "the harbour bench", "post"),
        ("my next talk, the harbour bench", "the harbour bench", "talk"),
        ("our latest blog post, rye", "rye", "post"),
        ("this post, which is about the harbour bench", "the harbour bench", "post"),
        ("this post is about the harbour bench", "the harbour bench", "post"),
        ("a post that explains how locks work", "how locks work", "post"),
        ("a post where I argue that cats rule", "I argue that cats rule", "post"),
        ("this is a paper on diffusion", "diffusion", "paper"),
        ("a post I wrote about the flood", "the flood", "post"),
        ("an article we've just published on the flood", "the flood", "article"),
        ("the talk that I'm giving about C++", "C++", "talk"),
        ("a guest post on about:config", "about:config", "post"),
        ("a post on Sunday roasts", "Sunday roasts", "post"),
        ("article about ferries", "ferries", "article"),
        ("a song about rain", "rain", "song"),
        ("talk about burnout", "burnout", "talk"),
        ("one of my talks: a talk about talks", "one of my talks: a talk about talks", ""),
        ("my talk — the bench", "the bench", "talk"),
        ("the commit that adds a login page", "adds a login page", ""),
        ("the news that the bridge is closed", "the bridge is closed", ""),
        # What is no filler, or may be none, stays.
        *(
            (same, same, "")
            for same in (
                "winter sourdough",
                "On Writing Well",
                "on winter",
                "about:config",
                "About Time",
                "my post office",
                "my post office on Main Street",
                "the post office on the corner",
                "post-mortem of the outage",
                "post-mortem: the outage",
                "a post-war essayist",
                "talk is cheap",
                "talk on",
                "how to post on a forum",
                "post on a forum",
                "posting about posting",
                "The Post: Spielberg's film",
                "A Talk About Bread",
                "my talk on Friday",
                "my talk on Friday about Rust",
                "the talk on 12 May",
                "a post on my blog",
                "my talk, my rules",
                "my talk at PyCon about Rust",
                "a review of Dune",
                "a guide to rye",
                "a survey on rye",
                "a tutorial on rye",
                "the history of the article",
                "notes on rye",
                "a post that nobody reads",
                "the release that broke everything",
                "the release on Monday",
                "release: 2.0",
                "adding a login page",
                "the bench where we met",
                "bookkeeping about bread",
                # other languages
                "mein Beitrag über Sauerteig",
                "mon article sur le levain",
                "un post sobre masa madre",
                "моя статья о закваске",
                "冬の天然酵母パン",
            )
        ),
    ],
)
def test_a_topic_is_told_from_the_words_around_it(asked: str, topic: str, kind: str) -> None:
    title = get_task("title")
    assert understand(asked, "title") == (title, topic, "topic", kind)
    assert understand(f"title for {asked}", "write") == (title, topic, "topic", kind)
    assert understand(f"Please write me a title for: {asked}", "title") == (title, topic, "topic", kind)


@pytest.mark.parametrize(
    ("query", "task", "found", "text", "shape"),
    [
        ("commit subject for adding a login page", "write", "commit", "adding a login page", "topic"),
        ("commit message for the change that adds a login page", "write", "commit", "adds a login page", "topic"),
        (
            "headline for the announcement that the bridge is closed",
            "write",
            "headline",
            "the bridge is closed",
            "topic",
        ),
        ("release note for: fix the parser", "write", "note", "fix the parser", "topic"),
        ("title of the song", "note", "note", "title of the song", "topic"),
        # drafts
        (DRAFT, "title", "title", DRAFT, "text"),
        (f"title for my post:\n\n{DRAFT}", "write", "title", DRAFT, "text"),
        (f"my post on bread\n\n{DRAFT}", "title", "title", f"my post on bread\n\n{DRAFT}", "text"),
        (LONG, "title", "title", LONG.strip(), "text"),
        ("パンは" * 60, "title", "title", "パンは" * 60, "text"),
        # changes
        (DIFF, "commit", "commit", CHANGE, "change"),
        (f"commit message for:\n{DIFF}", "write", "commit", CHANGE, "change"),
        (CHANGE, "commit", "commit", CHANGE, "change"),
        ("Changed files: a.py", "commit", "commit", "Changed files: a.py", "change"),
        (DIFF, "note", "note", CHANGE, "change"),
        # what is said again or written is no topic: all of it counts
        ("my post on rye", "paraphrase", "paraphrase", "my post on rye", "text"),
        ("rephrase this: my post on rye", "write", "paraphrase", "my post on rye", "text"),
        ("rewrite the rules", "paraphrase", "paraphrase", "rewrite the rules", "text"),
        ("a few lines about the seed swap", "write", "write", "a few lines about the seed swap", "text"),
        ("a post about the seed swap", "write", "write", "a post about the seed swap", "text"),
        ("", "title", "title", "", "text"),
    ],
)
def test_what_else_is_asked(query: str, task: str, found: str, text: str, shape: str) -> None:
    assert understand(query, task) == (get_task(found), text, shape, "")


FRAMES = st.sampled_from(
    ["", "my post on ", "title for: ", "a talk, which is about ", "the commit that ", "blog post: "]
)


@given(FRAMES, FRAMES, st.text(max_size=60))
def test_nothing_is_lost_but_the_beginning(one: str, two: str, words: str) -> None:
    query = one + two + words
    for task in ("title", "write", "commit"):
        asked = understand(query, task)
        assert " ".join(query.split()).endswith(" ".join(asked.text.split()))
        assert bool(asked.text) == bool(query.strip())


POST = Item("1", text="The starter sleeps. The starter wakes when the kitchen is warm." + DRAFT, title="bread, again")
NAMED = Item("2", text=DRAFT, title="bread", meta={"topic": "A post about slow dough"})
SAME = Item("3", text="Rye is sticky. Rye needs water.\n\nThe rye is here.", title="Rye!", meta={"topic": "rye"})
SHORT = Item("4", text="a few thoughts", title="thoughts")
SAID = Item("5", text="Changed files: a.py\n\nThe reader lost its last line. Now\nit keeps it.", title="Fix a.py")
DONE = Item("6", text="Changed files: a.py\n\n- load_all()\n+ load_some(n)\n+ load_some()", title="Load less")
TOLD = Item("10", text="Changed files: a.py\n\nIn: def load_all\nread(n[_max -> _items]) (2 times)", title="Name")
BARE = Item("7", text="Changed files: a.py", title="x", meta={"change": "a.py: in load_all, n_items and n_items"})
MESSAGE = Item("8", text="Close the file\n\nIt stayed open in tests.", title="A file that stayed open is closed.")
NOTHING = Item("9", title="winter swimming: again")


@pytest.mark.parametrize(
    ("item", "topic"),
    [
        (POST, "starter, rose, sleeps"),
        (NAMED, "slow dough"),
        (SAME, "rye, sticky, water"),
        (SHORT, "a few thoughts"),
        (SAID, "The reader lost its last line."),
        (DONE, "load_some, load_all"),
        (TOLD, "load_all"),
        (BARE, "n_items, load_all"),
        (MESSAGE, "Close the file"),
        (NOTHING, "winter, swimming"),
    ],
)
def test_a_past_item_asks_with_a_few_words_where_the_request_has_few(item: Item, topic: str) -> None:
    assert get_task("title").input_of(item, "topic") == topic


def test_a_past_item_asks_with_its_diff_where_the_request_is_one() -> None:
    commit = get_task("commit")
    assert commit.input_of(BARE, "change") == BARE.change
    assert commit.input_of(DONE, "change") == commit.input_of(DONE, "text") == commit.input_of(DONE) == DONE.text


def test_a_task_that_learns_from_texts_asks_with_titles_in_any_shape() -> None:
    assert [get_task("write").input_of(NAMED, shape) for shape in ("topic", "text", "change")] == ["bread"] * 3
