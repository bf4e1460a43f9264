"""The report: what it shows of a run, that nothing of it runs or loads anything, and its Markdown."""

from __future__ import annotations

from pathlib import Path

import pytest
from evaluation import scored_run
from helpers import check_self_contained

from prlm_edge.errors import UsageError
from prlm_edge.evaluate.report import markdown_tables, write_report
from prlm_edge.evaluate.report.view import View, frontier
from prlm_edge.evaluate.run_folder import RunFolder

EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>"


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return scored_run(tmp_path / "run", extra=EVIL)


def html(run: RunFolder, tmp_path: Path, **options: object) -> str:
    write_report([run], tmp_path / "report.html", **options)  # type: ignore[arg-type]
    return (tmp_path / "report.html").read_text()


def test_it_shows_ladder_sweeps_users_and_examples(run: RunFolder, tmp_path: Path) -> None:
    text = html(run, tmp_path, title="A & B")
    assert "<title>A &amp; B</title>" in text
    for part in ("zero-shot", "first sentence", "k, all else equal", "retriever, all else equal", "Hurt most"):
        assert part in text, part
    assert "best answers of k=4" in text
    assert run.header["asked"]["data"]["sha256"] in text
    assert (tmp_path / "report.html").stat().st_mode & 0o077 == 0  # it holds what users wrote


def test_nothing_in_it_runs_or_comes_from_elsewhere(run: RunFolder, tmp_path: Path) -> None:
    text = html(run, tmp_path)
    assert EVIL not in text
    assert "&lt;script&gt;alert(1)" in text
    assert check_self_contained(text) > 3


def test_without_examples_it_holds_nothing_that_anybody_wrote(run: RunFolder, tmp_path: Path) -> None:
    text = html(run, tmp_path, examples=False)
    assert "alert(1)" not in text
    assert "sourdough" not in text
    assert "zero-shot" in text


def test_the_same_run_gives_the_same_page(run: RunFolder, tmp_path: Path) -> None:
    assert html(run, tmp_path) == html(run, tmp_path)


def test_the_view_finds_base_sweeps_and_who_was_hurt(run: RunFolder) -> None:
    view = View(run)
    assert view.best
    assert view.best.name == "k=4"
    assert view.zero_shot
    assert view.zero_shot.name == "zero-shot"
    assert {key: [point.value for point in points] for key, points in view.sweeps.items()} == {
        "k": [1, 2, 4],
        "retriever": ["bm25", "dense"],
    }
    assert [pair.user for pair in view.hurt] == ["u0"]
    assert view.gain
    assert (view.gain.losses, view.gain.n_users) == (1, 6)
    best, worst = view.examples
    assert best[0].rouge1 > worst[0].rouge1
    assert len(best) == len(worst) == 3


def test_the_frontier_keeps_what_nothing_cheaper_equals() -> None:
    assert frontier([(3, 0.3), (1, 0.2), (2, 0.1), (4, 0.3)]) == [(1, 0.2), (3, 0.3)]


def test_markdown(run: RunFolder) -> None:
    text = markdown_tables([run])
    assert text.startswith("### acl_title (run)\n")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1
    assert any(line.startswith("| *first sentence* |") for line in rows)


def test_a_run_that_is_not_scored_is_refused(run: RunFolder, tmp_path: Path) -> None:
    (run.path / "summary.json").unlink()
    with pytest.raises(UsageError, match="no such file"):
        write_report([run], tmp_path / "x.html")
