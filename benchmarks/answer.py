"""Fresh processes: from Enter to the whole answer, beside llama-cpp-python's own chat with the same file.

    python benchmarks/answer.py [--items 1000] [--model small] [--chat FILE]

Three requests to `prlm-edge generate` with a profile of made-up items: the title of a draft of 300 words, the subject
of a diff of 180 lines, a title for three words; each for one answer, and for four to choose from. The chat gets the
same words and nobody's profile. They take turns, round by round. What is kept of the profile is there from the round
that warms up; evaluated prompts are not. "start_s" is what is left of the time besides the parts that `--json` tells,
imports mostly. Goals: 1.0, 1.2 and 0.8 s for one answer.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from _common import POST, environment, measure, medians, parser, ratios, report, spreads, write_profile

from prlm_edge.backends import what_runs
from prlm_edge.models.store import models_dir
from prlm_edge.settings import load_settings

CHAT = """
import sys, os
from llama_cpp import Llama
llama = Llama(sys.argv[1], n_ctx=8192, n_threads=os.cpu_count(), verbose=False)
said = llama.create_chat_completion([{"role": "user", "content": sys.stdin.read()}], max_tokens=32, temperature=0.0)
print(llama.n_tokens)
"""
FOUR = ", four to choose from"
PARTS = ("load_s", "retrieve_s", "prefill_s", "decode_s")
COLUMNS = ("start_s", *PARTS, "prompt_tokens", "answer_tokens")


class Ask(NamedTuple):
    """A request: options of `generate`, what it reads from standard input, and what the chat is asked."""

    options: tuple[str, ...]
    text: str
    chat: str


def draft() -> str:
    """A post of 300 words."""
    return " ".join(" ".join(POST.format(week) for week in range(20)).split()[:300])


def diff() -> str:
    """A change of 180 lines in three files, as git prints it."""
    lines = []
    for name in ("oven", "dough", "loaf"):
        path = f"bakery/{name}.py"
        lines += [f"diff --git a/{path} b/{path}", "index 3b87854..14ce7df 100644", f"--- a/{path}", f"+++ b/{path}"]
        for part in range(4):
            at = 40 * part + 10
            lines += [f"@@ -{at},11 +{at},12 @@ def {name}_{part}(weight: int) -> float:"]
            lines += [
                f'     """How warm the {name} is after step {part}."""',
                "     found = []",
                "     for week in range(52):",
            ]
            lines += [
                f"-        found.append(read_{name}(week, weight))",
                "-        if not found[-1]:",
                "-            break",
            ]
            lines += [f"+        value = read_{name}(week, weight, timeout=TIMEOUT_S)", "+        if value is None:"]
            lines += ["+            continue  # the sensor was off", "+        found.append(value)"]
            lines += ["     total = sum(found)", "     if total > LIMIT:", f'         warn("{name}", part={part})']
    return "\n".join(lines) + "\n"


ASKS = {
    "title of a draft": Ask(("--task", "title", "-"), draft(), f"Write a title for this post:\n\n{draft()}"),
    "subject of a diff": Ask(("--task", "commit", "-"), diff(), f"Write a one-line commit subject for:\n\n{diff()}"),
    "title for three words": Ask(
        ("title for my post on winter sourdough",), "", "A title for my post on winter sourdough"
    ),
}


def run(command: list[str], text: str, home: str, _round: int) -> tuple[float, str]:
    """Seconds of a fresh process, and what it printed."""
    started = time.perf_counter()
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "env": environment(home)}
    done = subprocess.run(command, input=text, text=True, check=False, **pipes)
    assert done.returncode == 0, command
    return time.perf_counter() - started, done.stdout


def row(what: str, ours: list[tuple[float, str]], theirs: list[tuple[float, str]]) -> dict[str, Any]:
    """The figures of one request."""
    seconds, said = zip(*ours, strict=True)
    usages = [json.loads(text)["usage"] for text in said]
    parts = [
        [took - sum(usage[part] for part in PARTS), *(usage[name] for name in COLUMNS[1:])]
        for took, usage in zip(seconds, usages, strict=True)
    ]
    chat = [took for took, _ in theirs]
    found = dict(zip(COLUMNS, medians(parts), strict=True))
    return {"what": what, **spreads(seconds, "answer_s"), **found, **spreads(chat, "chat_s"), **ratios(seconds, chat)}


def main() -> None:
    options = parser(__doc__, 7)
    options.add_argument("--items", type=int, default=1000, help="of the profile")
    options.add_argument("--model", default="auto", help="that answers")
    options.add_argument("--chat", type=Path, help="GGUF file that the chat runs instead of the same one")
    args = options.parse_args()
    model = args.chat or what_runs(load_settings(flags={"model": args.model}, env={})).model
    prlm = str(Path(sys.executable).with_name("prlm-edge"))
    with tempfile.TemporaryDirectory() as home:
        profile, data = Path(home, "me.jsonl"), Path(home, "data")
        write_profile(profile, args.items)
        data.mkdir(mode=0o700)
        (data / "models").symlink_to(models_dir())
        runs: dict[str, Callable[[int], tuple[float, str]]] = {}
        for name, ask in ASKS.items():
            ours = [prlm, "generate", "--model", args.model, "--user", str(profile), "--json", *ask.options]
            runs[name] = partial(run, ours, ask.text, home)
            runs[name + FOUR] = partial(run, [*ours, "-n", "4"], ask.text, home)
            runs[f"{name}: chat"] = partial(run, [sys.executable, "-c", CHAT, str(model)], ask.chat, home)
        found = measure(runs, args.rounds)
    rows = [row(name + more, found[name + more], found[f"{name}: chat"]) for more in ("", FOUR) for name in ASKS]
    report("answer", rows, args.json)


if __name__ == "__main__":
    main()
