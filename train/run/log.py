"""What happened at each step of a training run, on disk as it happens.

    RUN/run.jsonl      {"kind": "step" | "dev" | "stop", "step": N, ...} a line
    RUN/samples.jsonl  what was written at some steps, and what it earned; holds users' texts, so files are 0600

A step's record: loss, grad_norm, lr, reward, reward_std, terms {name: mean}, terms_std, kl, entropy, zero_variance
(share of groups that teach nothing), truncated (share of completions cut off), clipped (share of tokens whose ratio
was), non_finite (share of rollouts with a reward that is no number), lengths {mean, min, max, reasoning, answer} in
tokens, tokens (so far), and of the clock: wall_s, step_s, tokens_per_s, eta_s, memory_mb (peak), gpu_mb (peak).

A run that was killed and goes on from step N forgets what came after N: apart from the clock its log is that of a
straight run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prlm_edge.storage import append_bytes, atomic_write, cut_torn_line, fits, json_lines, private_dir
from prlm_edge.train.run.stopping import Verdict

Record = Mapping[str, Any]
_SHOWN = {
    "kl": "kl {:.4f}",
    "entropy": "entropy {:.2f}",
    "zero_variance": "no variance {:.0%}",
    "truncated": "cut off {:.0%}",
    "tokens_per_s": "{:.0f} tokens/s",
    "memory_mb": "{:.0f} MB",
}
_FORMS = {  # a number that JSON has no spelling for is a text, see `_storable`
    "step": {"step": int, "kind": str, str: (int, float, str, dict)},
    "dev": {"step": int, "figures": {str: (int, float, str)}},
    "stop": {"step": int, "reason": str, "advice": str},
}
_SAMPLE = {"step": int, str: (str, dict)}
CLOCK = ("wall_s", "step_s", "tokens_per_s", "eta_s", "memory_mb", "gpu_mb")  # what differs from run to run


class RunLog:
    """The log in `folder`, and its records in memory.

    Args:
        folder: Of the run.
        writes: False keeps records in memory alone: every process but the first of a distributed run.

    Raises:
        DataError: A line is damaged.
    """

    def __init__(self, folder: Path, *, writes: bool = True) -> None:
        self.path, self.samples_path = folder / "run.jsonl", folder / "samples.jsonl"
        self.writes = writes
        self.records: list[Record] = list(read_records(self.path))
        if writes:
            private_dir(folder)
            cut_torn_line(self.path)
            cut_torn_line(self.samples_path)

    def add(self, record: Record) -> None:
        """Append; on disk when this returns.

        Raises:
            PrlmError: The disk is full or not writable.
        """
        self.records.append(record)
        if self.writes:
            append_bytes(self.path, _line(_storable(record)))

    def dev(self, step: int, figures: Mapping[str, float]) -> None:
        """Append what dev users' answers scored at a step, such as {"rouge1": 0.41}."""
        self.add({"kind": "dev", "step": step, "figures": {name: float(value) for name, value in figures.items()}})

    def stop(self, step: int, verdict: Verdict) -> None:
        """Append why the run was stopped."""
        self.add({"kind": "stop", "step": step, **asdict(verdict)})

    def samples(self, step: int, samples: Sequence[Mapping[str, Any]]) -> None:
        """Append samples of a step."""
        if self.writes and samples:
            lines = (_line(_storable({"step": step, **sample})) for sample in samples)
            append_bytes(self.samples_path, b"".join(lines))

    def rewind(self, step: int) -> None:
        """Forget what came after `step`, and that the run was stopped: it goes on from there. 0 forgets all."""
        keep = [one for one in self.records if one["step"] <= step and one["kind"] != "stop" and step > 0]
        if len(keep) < len(self.records):
            self.records = keep
            self._replace(self.path, [_storable(record) for record in keep])
        samples = list(read_samples(self.samples_path))
        kept = [one for one in samples if one["step"] <= step and step > 0]
        if len(kept) < len(samples):
            self._replace(self.samples_path, kept)

    def _replace(self, path: Path, records: Sequence[Any]) -> None:
        if self.writes:
            with atomic_write(path) as stream:
                stream.writelines(map(_line, records))


def read_records(path: Path) -> Iterator[Record]:
    """The records of a run.jsonl; a line that is not whole yet doesn't count.

    Raises:
        DataError: A line is damaged.
    """
    for record in json_lines(path, _record, "delete that line"):
        yield _loaded(record)


def read_samples(path: Path) -> list[Record]:
    """The samples of a samples.jsonl; raises as `read_records`."""
    return list(json_lines(path, _sample, "delete that line"))


def status(record: Record, n_steps: int) -> str:
    """One line for people, such as "step 12/200  reward 1.90 (accuracy 0.91, format 0.99)  kl 0.004  eta 0:12:03"."""
    parts = [f"step {record['step']}" + (f"/{n_steps}" if n_steps > 0 else "")]
    if "reward" in record:
        terms = ", ".join(f"{name} {value:.2f}" for name, value in record.get("terms", {}).items())
        parts.append(f"reward {record['reward']:.2f}" + (f" ({terms})" if terms else ""))
    elif "loss" in record:
        parts.append(f"loss {record['loss']:.3f}")
    parts += [form.format(record[key]) for key, form in _SHOWN.items() if key in record]
    if "eta_s" in record:
        minutes, seconds = divmod(round(record["eta_s"]), 60)
        parts.append(f"eta {minutes // 60}:{minutes % 60:02}:{seconds:02}")
    return "  ".join(parts)


def _record(record: dict[str, Any]) -> dict[str, Any]:
    if not fits(record, _FORMS[record["kind"]]) or not isinstance(record.get("terms", {}), dict):
        raise TypeError
    return record


def _sample(record: dict[str, Any]) -> dict[str, Any]:
    if not fits(record, _SAMPLE):
        raise TypeError
    return record


def _line(record: Any) -> bytes:
    text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace") + b"\n"


def _storable(value: Any) -> Any:
    """A value for JSON, which has no NaN: such numbers are written as "nan", "inf" and "-inf"."""
    if isinstance(value, Mapping):
        return {str(key): _storable(one) for key, one in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _loaded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _loaded(one) for key, one in value.items()}
    return float(value) if value in ("nan", "inf", "-inf") else value
