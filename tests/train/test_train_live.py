"""A run in the terminal, and where there is none."""

import io

import pytest

pytest.importorskip("transformers")
from prlm_edge.train.run.live import PlainLines, StatusLine, make_view, status


def step(at, **figures):
    return {"kind": "step", "step": at, "loss": at / 7, **figures}


class Terminal(io.StringIO):
    def isatty(self):
        return True


FULL = step(
    12,
    reward=1.9,
    terms={"accuracy": 0.914, "format": 0.99},
    kl=0.00412,
    entropy=1.234,
    zero_variance=0.125,
    truncated=0.03,
    tokens_per_s=210.4,
    memory_mb=1234.5,
    eta_s=3723.4,
)


def test_a_status_says_what_is_known():
    assert status(FULL, 200) == (
        "step 12/200  reward 1.90 (accuracy 0.91, format 0.99)  kl 0.0041  entropy 1.23  no variance 12%  cut off 3%  "
        "210 tokens/s  1234 MB  eta 1:02:03"
    )
    assert status(step(7), 0) == "step 7  loss 1.000"
    assert "\x1b" not in status({**FULL, "terms": {"\x1b[31m": 1.0}}, 0)


def test_plain_lines_come_first_then_now_and_then_and_last():
    stream = io.StringIO()
    view = make_view(3, stream)
    assert isinstance(view, PlainLines)
    for at in range(1, 9):
        view.step(step(at), 8)
    view.close()
    assert [line.split()[1] for line in stream.getvalue().splitlines()] == ["1/8", "3/8", "6/8", "8/8"]


def test_a_closed_stderr_does_not_end_a_run():
    view = PlainLines(1, None)
    view.step(step(1), 8)
    broken = io.StringIO()
    broken.write = lambda text: (_ for _ in ()).throw(BrokenPipeError())
    PlainLines(1, broken).step(step(1), 8)


def test_a_terminal_gets_one_line_that_renews_itself(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    stream = Terminal()
    view = make_view(3, stream)
    assert isinstance(view, StatusLine)
    view.step(step(1), 8)
    view.step({**FULL, "terms": {"[bold]": 1.0}}, 200)  # no markup
    view.close()
    view.close()
    text = stream.getvalue()
    assert "\x1b[2K" in text  # erased
    assert text.splitlines()[-1].endswith("eta 1:02:03")
    assert "[bold] 1.00" in text
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(make_view(3, stream), PlainLines)


def test_a_view_that_never_began_closes():
    stream = Terminal()
    StatusLine(stream).close()
    assert stream.getvalue() == ""
