"""The account of a change: swaps, places, telling lines, within its size and quickly enough on hostile diffs."""

from __future__ import annotations

import pytest

from prlm_edge.ingest import condense
from prlm_edge.ingest.condense import account
from prlm_edge.ingest.diff_files import FileChange, parse_diff


def told(diff: str, n_chars: int = 450) -> list[str]:
    return account(parse_diff(f"--- a/x\n+++ b/x\n{diff}".split("\n"))[0], n_chars).split("\n")


@pytest.mark.parametrize(
    ("diff", "lines"),
    [
        ("@@ -1 +1 @@\n-color: red;\n+color: blue;", ["color: [red -> blue];"]),
        ("@@ -1 +1 @@ def load(path):\n-x = f(a)\n+x = f(a, b)", ["In: def load(path):", "x = f(a[ -> , b])"]),
        # what recurs stands once
        (
            "@@ -1,2 +1,2 @@\n-url(/old/a.png)\n+url(/new/a.png)\n-url(/old/b.png)\n+url(/new/b.png)",
            ["url(/[old -> new]/a.png) (2 times)"],
        ),
        # lines that have nothing in common come and go whole
        ("@@ -1 +1 @@\n-first thing here\n+quite another matter", ["- first thing here", "+ quite another matter"]),
        # two far apart changes of a line are shown apart
        (
            "@@ -1 +1 @@\n-one b c d e f g h i j k l m n o two\n+1 b c d e f g h i j k l m n o 2",
            ["[one -> 1] b c d e f g h i j k l", "e f g h i j k l m n o [two -> 2]"],
        ),
        # nothing but punctuation changed: the lines as they are
        ("@@ -1 +1 @@\n-call(it)\n+call(it);", ["- call(it)", "+ call(it);"]),
        # an equal line is said once, an import comes last
        ("@@ -0,0 +1,4 @@\n+import os\n+go()\n+go()\n+# Why it goes.", ["+ import os", "+ go()", "+ # Why it goes."]),
    ],
)
def test_what_changed_where_there_is_no_room_for_all_of_it(
    diff: str, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(condense, "_whole", lambda files, room: [])
    assert told(diff) == lines


def test_a_small_change_is_shown_as_it_is() -> None:
    diff = "@@ -1,2 +1,2 @@ def load(path):\n-x = f(a)\n+x = f(a, b)\n-import b\n+import a"
    assert told(diff) == ["- x = f(a)", "+ x = f(a, b)"]
    assert told(diff, 24) == ["- x = f(a)", "+ x = f(a, b)"]
    assert told(diff, 23) != told(diff)
    assert told("@@ -1 +1 @@\n-import b\n+import a") == ["import [b -> a]"]


def test_the_most_telling_lines_are_kept_in_their_order() -> None:
    diff = "@@ -0,0 +1,5 @@\n+import os\n+i += 1\n+# The server may be slow.\n+def retry(call):\n+wait(call)"
    assert told(diff, 55) == ["+ # The server may be slow.", "+ def retry(call):"]


def test_files_take_turns_and_generated_ones_come_only_alone() -> None:
    files = [
        FileChange("big.py", [f"+ line number {i}" for i in range(50)]),
        FileChange("small.py", ["+ only this one"]),
        FileChange("package-lock.json", ["+ noise"] * 50),
    ]
    assert account(files, 70).split("\n") == [
        "+ line number 0",
        "+ line number 1",
        "+ line number 2",
        "+ only this one",
    ]
    assert account([FileChange("x.lock", ["+ a word"])], 70) == "+ a word"
    assert account([], 70) == account([FileChange("x.png", kinds=["binary"])], 70) == ""


@pytest.mark.parametrize("n_chars", [0, 1, 20, 100, 450])
def test_never_longer_than_asked(n_chars: int) -> None:
    lines = [f"{sign} value_{i} = compute(a_{i}, {i}) or {'x' * 300}" for i in range(40) for sign in "-+"]
    files = [FileChange(f"{i}.py", lines, hunks=[(0, f"def f{i}(self, something):")]) for i in range(9)]
    assert len(account(files, n_chars)) <= n_chars


def test_a_line_that_was_cut_does_not_end_in_a_swap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(condense, "_whole", lambda files, room: [])
    line = "word " * 200
    diff = f"@@ -1 +1 @@\n-old {line}\n+newer {line}"
    assert told(diff) == ["[old -> newer] word word word word"]


def test_hostile_diffs_cost_little() -> None:
    """Only so many lines are compared, each with a few others: 4,000,000 comparisons would not end within the test."""
    lines = [f"- {'a b c d e f g h ' * 20}{i}" for i in range(200)] + [
        f"+ {'h g f e d c b a ' * 20}{i}" for i in range(200)
    ]
    files = [FileChange(f"{i}.py", lines) for i in range(1000)]
    assert account(files, 450)
