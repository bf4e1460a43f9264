"""`generate -n` and `--pick` as users type them: a request piped in, the answer read by a shell, keys on a terminal."""

from __future__ import annotations

import re

import pytest
from helpers import EXAMPLE, PRLM, asked_on_terminal, prlm

REQUEST = "I kept a log of how slowly bread rises in a cold kitchen, and of what the thermometer said."
WORDS = ["generate", "-u", str(EXAMPLE), "--task", "title", "--answer-tokens", "16", "-"]
PROMPT = b"none: "
pytestmark = [pytest.mark.model, pytest.mark.usefixtures("smollm2_path")]


def listed(shown: bytes) -> list[list[str]]:
    """The answers of each list that the terminal shows."""
    lists: list[list[str]] = []
    for number, answer in re.findall(r"^(\d)  (.*?)\r?$", shown.decode(), re.MULTILINE):
        lists += [[]] * (number == "1")
        lists[-1] = [*lists[-1], answer]
    return lists


def test_n_answers_are_lines_that_differ() -> None:
    done = prlm(*WORDS, "-n", "4", input=REQUEST)
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert 1 < len(set(map(str.lower, lines))) == len(lines) <= 4


@pytest.mark.parametrize(
    ("keys", "code", "expected"),
    [
        ([(PROMPT, b"x92")], 0, "{0[1]}\n"),  # what means nothing is passed over
        ([(PROMPT, b"e"), (b"which? ", b"1"), (b"> ", b" again\r")], 0, "{0[0]} again\n"),
        ([(PROMPT, b"e"), (b"which? ", b"1"), (b"> ", b"\x03"), (PROMPT, b"r"), (PROMPT, b"\r")], 0, "{2[0]}\n"),
        ([(PROMPT, b"\x03")], 130, ""),
    ],
)
def test_a_key_picks_one(keys: list[tuple[bytes, bytes]], code: int, expected: str) -> None:
    found, out, shown = asked_on_terminal([*PRLM, *WORDS, "--pick", "--quiet"], keys, REQUEST)
    assert (found, out) == (code, expected.format(*listed(shown)))


@pytest.mark.parametrize(
    ("more", "text"),
    [(["--pick"], "needs a terminal"), (["--pick", "--json"], "alone"), (["-n", "10"], "at most 9")],
)
def test_what_can_not_be_is_a_usage_error(more: list[str], text: str) -> None:
    done = prlm(*WORDS, *more, input=REQUEST, start_new_session=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert text in done.stderr
