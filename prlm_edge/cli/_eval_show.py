"""Shows what `prlm-edge eval` found: tables on stdout, what went wrong on stderr. Not here: the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prlm_edge.cli.shared import console as _console

if TYPE_CHECKING:
    from prlm_edge.evaluate.ab import VoteResult
    from prlm_edge.evaluate.compare import Compared


def show_run(summary: Mapping[str, Any], *, full: bool = False) -> None:
    """A line a condition; the headline metrics, or all of them."""
    from prlm_edge.evaluate.metrics import METRICS

    conditions = summary["conditions"]
    names = [name for name, metric in METRICS.items() if full or metric.headline]
    names = [name for name in names if any(name in found for found in conditions.values())]
    rows = [["CONDITION", "USERS", *(name.upper() for name in names), "PROMPT", "USERS/MIN"]]
    for condition, found in conditions.items():
        users = max((each["n_users"] for each in found.values()), default=0)
        tokens = found.get("prompt_tokens", {}).get("mean", 0)
        speed = summary["users_per_minute"].get(condition)
        cells = [_estimate(found.get(name)) for name in names]
        rows.append([condition, str(users), *cells, f"{tokens:.0f}" if tokens else "", f"{speed:.1f}" if speed else ""])
    _console.table(rows, right=range(1, len(rows[0])))
    for one in summary["signatures"]:
        if condition_runs_a_model(one["condition"], summary):
            _console.note(f"{one['condition']}: {one['name']} ({one['share']:.0%}): {one['advice']}")


def condition_runs_a_model(name: str, summary: Mapping[str, Any]) -> bool:
    """Whether a condition is more than a trivial baseline, of which nothing better is expected."""
    return bool(summary["conditions"].get(name, {}).get("prompt_tokens", {}).get("mean"))


def show_differences(a: str, b: str, found: Sequence[Compared]) -> None:
    """A line a metric."""
    _console.out(f"A  {a}\nB  {b}\n")
    rows = [["METRIC", "A", "B", "B - A", "95%", "P", "WIN/TIE/LOSS", "USERS"]]
    for one in found:
        d = one.difference
        sign = "" if d.low <= 0 <= d.high or not one.better else "better" if d.mean * one.better > 0 else "worse"
        interval = f"[{d.low:+.3f}, {d.high:+.3f}] {sign}".rstrip()
        counts = f"{d.wins}/{d.ties}/{d.losses}"
        p = f"{d.p:.4f}" if d.p >= 0.001 else "<.001"
        rows.append([one.metric, f"{d.a:.3f}", f"{d.b:.3f}", f"{d.mean:+.3f}", interval, p, counts, str(d.n_users)])
    _console.table(rows, right=(1, 2, 3, 5, 6, 7))


def show_votes(result: VoteResult) -> None:
    """What people preferred."""
    if not result.n:
        _console.out("no votes yet")
        return
    rate = f"{result.win_rate:.0%} [{result.low:.0%}, {result.high:.0%}]"
    _console.out(f"{result.b} preferred: {rate} of {result.n} pairs, ties counted half")
    _console.out(f"wins {result.wins_b}, ties {result.ties}, losses {result.wins_a}, against {result.a}")
    if result.equal:
        _console.note(f"{result.equal} pairs were equal and not shown")


def _estimate(found: Mapping[str, Any] | None) -> str:
    if not found:
        return "-"
    return f"{found['mean']:.3f} ±{(found['high'] - found['low']) / 2:.3f}"
