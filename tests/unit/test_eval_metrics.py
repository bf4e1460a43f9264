"""Metrics of one answer, on answers whose scores are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from prlm_edge.evaluate.metrics import METRICS, score_answer
from prlm_edge.evaluate.metrics.request import Known
from prlm_edge.evaluate.metrics.target import _jieba
from prlm_edge.evaluate.records import Answer, Condition, Shown
from prlm_edge.evaluate.signatures import signatures
from prlm_edge.rerank import echo
from prlm_edge.storage import cache_dir
from prlm_edge.style import style_of

PAST = ["docs: mend the index page", "docs: say what a profile is", "docs: link the manual", "docs: name the tests"]
STYLE = style_of(PAST)
ANSWER = Answer(
    "c", "r", "u", "The manual lacks a page about tests.", "docs: add a page about tests", "docs: add a page on tests",
    reasoning="About page and tests. [1] is closest. 6 words, lower case, tag 'docs:', no final period.",
    used=(Shown("i", PAST[0], 1.0),), finish_reason="stop",
)  # fmt: skip

DIFF = """diff --git a/docs/agents/models.md b/docs/agents/models.md
@@ -12,5 +12,5 @@ def load_model(name):
 retries three times, then calls user_id() of the GitHub API
-model: sonnet-4.5
+model: opus-4.6   # see #981, utf8
"""


def scores(answer: Answer = ANSWER) -> dict[str, float | None]:
    return score_answer(answer, STYLE, PAST, answer.query, [PAST[0], "docs: link gh-12"])


def test_every_metric_is_listed_and_given() -> None:
    assert set(scores()) | {"similarity"} == set(METRICS)


def test_the_users_own_words_are_perfect() -> None:
    found = scores(replace(ANSWER, answer=ANSWER.target))
    for name in (
        "rouge1",
        "rouge2",
        "rougeL",
        "bleu",
        "chrf",
        "paper_rouge1",
        "paper_rouge2",
        "paper_rougeL",
        "paper_bleu",
    ):
        assert found[name] == pytest.approx(1), name
    assert found["length_ratio"] == 1
    assert found["style_match"] == found["target_style_match"]


def test_rouge_by_hand() -> None:
    assert scores()["rouge1"] == pytest.approx(5 / 6)  # six words each, five shared
    assert scores()["rouge2"] == pytest.approx(3 / 5)


def test_style_is_the_users() -> None:
    plain = scores(replace(ANSWER, answer="A Completely New Page"))["style_match"]
    assert plain is not None
    assert plain < 0.5 < 0.9 < (scores()["style_match"] or 0)
    assert score_answer(ANSWER, style_of([]), [], "", [])["style_match"] is None


def test_copies_are_seen_word_for_word_and_in_part() -> None:
    assert scores(replace(ANSWER, answer="Docs: mend the INDEX page"))["copied"] == 1
    assert scores(replace(ANSWER, answer="docs: mend an index page"))["copied"] == 1  # as best-of-n takes it
    assert scores(replace(ANSWER, answer=PAST[0]))["copy_rate"] == 1
    half = scores(replace(ANSWER, answer="docs: mend the index of all our dreams"))
    assert (half["copied"], half["copy_rate"]) == (0, 0.5)
    assert scores(replace(ANSWER, answer="two words"))["copy_rate"] is None
    assert scores(replace(ANSWER, answer="lacks a page about tests"))["query_copy"] == 1


@pytest.mark.parametrize(
    ("asked", "again", "new"),
    [
        ("perl, git", ["Perl Git", "Git and Perl."], ["Perl and Git in 2015", "Git for Perl programmers"]),
        ("my post on winter sourdough", ["My Post on Winter Sourdough", "Winter sourdough"], ["Sourdough in the cold"]),
        ("unwrap, error handling", ["Unwrapping errors: how to handle them"], ["Unwrap or panic?"]),
        (
            "Idioms and patterns for handling errors in Go.",
            ["Idioms and patterns for handling errors in Go", "Handling errors in Go: patterns and idioms"],
            ["Handling errors in Go the boring way"],
        ),
        ("What's next for the R community", ["The R community: what is next?"], ["A community for R in Oslo"]),
        # of a sentence a title may take the gist
        (
            "I'm writing to let you all know that this is my final week working on Frictionless Data for Open Access",
            ["I'm Writing To Let You Know That My Final Week Working On Frictionless Data For Open Access Is Here"],
            ["My final week with Frictionless Data"],
        ),
        # and of a text its words, which query_copy counts
        (DIFF, [DIFF.upper()], ["retries three times"]),
        ("How are you", [], ["What is this", ""]),
    ],
)
def test_an_echo_says_nothing_but_the_request(asked: str, again: list[str], new: list[str]) -> None:
    assert [answer for answer in again if not echo(answer, asked)] == []
    assert [answer for answer in new if echo(answer, asked)] == []


@pytest.mark.parametrize(
    ("answer", "invented"),
    [
        ("Fix cc-plugin for Claude 7", ["Claude", "7"]),
        ("Retry 3 times", []),
        ("docs: name opus-4.6 in models.md", []),
        ("docs: name opus-4.7 in model.md, fixes #98", ["4.7", "98"]),
        ("Use `load_model` and `save_model`", ["save_model"]),
        ("Use LoadModel with loadModels()", []),
        ("Call UserID of the Github API (UTF-8)", []),
        ("README: ask GitLab", ["GitLab"]),  # what stands in capitals first is a tag
        ("Add TLS to the api", ["TLS"]),
        ("[Docs] Name a newer model", []),
        ("fix: Retry loads. Then stop", []),
        ("models In the api", []),
        ("New Models For Our Agents", []),  # title case doesn't tell names from words
        ("New Models For Our iPhone Agents", ["iPhone"]),
        ("Retry and/or stop", []),
        ("touch src/lib/agents", ["src/lib/agents"]),
        ("NEW MODELS FOR 2 AGENTS", ["2"]),
        ("the Bayesian agent", ["Bayesian"]),
        ("", []),
    ],
)
def test_names_that_neither_request_nor_shown_items_have_are_invented(answer: str, invented: list[str]) -> None:
    assert Known(DIFF).invented(answer) == invented
    assert Known(DIFF, "Bayes GitLab src/lib/agents iPhone claude-7 4.7 TLS save model 98 2").invented(answer) == []


def test_names_of_the_askedand_of_shown_items_are_told_apart() -> None:
    def found(text: str, request: str) -> tuple[float | None, float | None]:
        one = score_answer(replace(ANSWER, answer=text), STYLE, PAST, request, ["bump pytest to 7.1"])
        return one["invention"], one["carried"]

    assert found("bump pytest to 8.0", "pytest 8.0") == (0, 0)
    assert found("bump pytest to 7.1", "pytest 8.0") == (0, 1)
    assert found("bump pytest to 6.5", "pytest 8.0") == (1, 0)


def test_format() -> None:
    assert scores()["format_ok"] == 1
    for bad in ({"finish_reason": "length"}, {"answer": ""}, {"answer": "x </think>"}):
        assert scores(replace(ANSWER, **bad))["format_ok"] == 0  # type: ignore[arg-type]
    assert scores(replace(ANSWER, finish_reason=""))["format_ok"] == 1  # a baseline
    ends = {reason: scores(replace(ANSWER, finish_reason=reason))["cut_off"] for reason in ("stop", "length", "")}
    assert ends == {"stop": 0, "length": 1, "": None}


def test_reasoning_is_held_against_the_answer_and_against_the_profile() -> None:
    assert scores()["faithfulness"] == 1
    wrong = replace(ANSWER, reasoning="[7] is closest. 3 words, title case, tag 'docs:'.")
    assert scores(wrong)["faithfulness"] == 0.25
    assert scores(wrong)["grounded"] == pytest.approx(1 / 3)  # the tag alone is this user's
    assert scores(replace(ANSWER, reasoning=""))["faithfulness"] is None
    assert scores(replace(ANSWER, reasoning="hm"))["grounded"] is None


@pytest.mark.parametrize("text", ["", " ", "🙂", "？", "a\nb"])
def test_odd_answers_score_without_a_crash(text: str) -> None:
    for name, value in scores(replace(ANSWER, answer=text)).items():
        assert value is None or 0 <= value <= 2, name


def test_jieba_reads_its_cache_from_a_folder_of_ours(home: Path) -> None:
    """It unmarshals what it finds, in the system's folder of temporary files unless told otherwise."""
    _jieba.cache_clear()
    folder = Path(_jieba().dt.tmp_dir)
    assert folder == cache_dir() / "jieba"
    assert folder.stat().st_mode & 0o077 == 0


def test_signatures_name_what_goes_wrong() -> None:
    users = [replace(ANSWER, row=f"r{i}", user=f"u{i}", retrieved=(2.0, 1.0)) for i in range(10)]
    model, trivial = Condition("m"), Condition("t", baseline="copy")

    def names(changed: dict[str, object], condition: Condition = model) -> set[str]:
        answers = [replace(one, **changed) for one in users]  # type: ignore[arg-type]
        return {found.name for found in signatures(condition, [(answer, scores(answer)) for answer in answers])}

    assert names({"reasoning": ""}) == set()
    assert names({}) == {"generic reasoning"}
    assert "truncated reasoning" in names({"reasoning_truncated": True})
    assert names({"reasoning": "", "answer": PAST[1]}) == {"copied answer", "ignored request"}
    assert names({"reasoning": "", "answer": ""}) == {"empty answer"}
    assert names({"reasoning": "", "answer": "manual lacks pages about tests!"}) == {"echo"}
    assert names({"reasoning": "", "answer": "docs: add a page on pytest 7"}) == {"invention"}
    assert names({"reasoning": "", "answer": "docs: a page about tests, see gh-12"}) == {"carried name"}
    assert names({"reasoning": "", "finish_reason": "length"}) == {"cut-off answer"}
    assert names({"reasoning": "", "answer": "tests are tests are tests are"}) == {"loop", "echo"}
    named = "The Dell EMC Storage driver sets multiattach in what the Dell EMC Storage driver returns"
    assert "loop" not in names({"reasoning": "", "answer": named})
    assert names({"reasoning": "", "retrieved": (1.0, 0.95)}) == {"retrieval irrelevant"}
    assert names({"reasoning": "", "retrieved": (0.0, 0.0)}) == {"retrieval irrelevant"}
    assert names({"reasoning": "", "retrieved": (1.0, 0.95)}, trivial) == set()
    assert names({"reasoning": "", "retrieved": (0.0, 0.0)}, Condition("r", {"retriever": "recency"})) == set()
