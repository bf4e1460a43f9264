"""Fresh processes: from exec to the first token and to the answer, and the most memory they took.

    python benchmarks/fresh.py [MODEL.gguf]

A profile of 12 items makes a prefix of 1,560 tokens; the request has about 40. Side by side in each round:
`prlm-edge generate` and `Writer`, cold and with the prefix cache on disk, and a script around llama-cpp-python's
`create_chat_completion` with the same prompt. Goal: at most 0.5 s to the first token with the prefix cached.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _common import parser, report, spread

from prlm_edge import models

REQUEST = "title for my post on a long cold winter and the sourdough that would not rise before march, week {}"
POST = "The oven was cold and the dough was slow, and nobody wrote down what the weather did to the loaf in week {}. "
N_ITEMS = 12
OURS = "retriever", "recency", "k", str(N_ITEMS), "reasoning", "off", "answer_tokens", "12", "item_words", "90"
WRITER = """
import sys, time
from prlm_edge import Writer
path, model, cache, request = sys.argv[1:5]
more = dict(zip(sys.argv[5::2], sys.argv[6::2]))
for key in ("k", "answer_tokens", "item_words"): more[key] = int(more[key])
with Writer.open(path, model=model, prefix_cache=cache, **more) as writer:
    for event in writer.stream(request):
        if event.type == "answer":
            print("first", flush=True)
print(event.result.usage.prompt_tokens, event.result.usage.cached_tokens, flush=True)
"""
CHAT = """
import json, sys, os
from llama_cpp import Llama
turns = json.load(open(sys.argv[1]))
llama = Llama(sys.argv[2], n_ctx=4096, n_threads=os.cpu_count(), verbose=False)
for chunk in llama.create_chat_completion(turns, max_tokens=12, temperature=0.0, stream=True):
    if chunk["choices"][0]["delta"].get("content"):
        print("first", flush=True)
print(llama.n_tokens, 0, flush=True)
"""


def run(command: list[str], home: str) -> tuple[float, float, float, str]:
    """Seconds to the first output and to the end, peak memory in MB, the last line."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PRLM_HOME": home})
    assert process.stdout
    process.stdout.readline()
    first = time.perf_counter() - started
    rest = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, command
    return first, time.perf_counter() - started, usage.ru_maxrss / 1024, rest.strip().splitlines()[-1] if rest else ""


def main() -> None:
    options = parser(__doc__, 5)
    options.add_argument("model", nargs="?", type=Path)
    args = options.parse_args()
    model = str(args.model or models.resolve("default"))
    with tempfile.TemporaryDirectory() as home:
        profile, turns = Path(home, "me.jsonl"), Path(home, "turns.json")
        items = [
            {
                "id": str(i),
                "text": POST.format(i) * 4,
                "title": f"the loaf of week {i}",
                "date": f"2025-{i % 12 + 1:02}",
            }
            for i in range(N_ITEMS)
        ]
        profile.write_text("".join(json.dumps(item) + "\n" for item in items))
        flags = [f"--{o.replace('_', '-')}" if len(o) > 1 else f"-{o}" for o in OURS[::2]]
        cli = [a for pair in zip(flags, OURS[1::2], strict=True) for a in pair]
        python, prlm = sys.executable, str(Path(sys.executable).with_name("prlm-edge"))

        def command(what: str, cache: str, request: str) -> list[str]:
            if what == "CLI":
                more = ["--user", str(profile), "--model", model, "--prefix-cache", cache, "--jsonl", *cli]
                return [prlm, "generate", *more, request]
            return [python, "-c", WRITER, str(profile), model, cache, request, *OURS]

        dry = [
            prlm,
            "generate",
            "--user",
            str(profile),
            "--model",
            model,
            "--dry-run",
            "--json",
            *cli,
            REQUEST.format(0),
        ]
        plan = json.loads(subprocess.run(dry, capture_output=True, check=True).stdout)
        chat = [{"role": turn["role"], "content": turn["text"]} for turn in plan["turns"]]
        turns.write_text(json.dumps(chat))
        kinds = [(what, cache) for what in ("Writer", "CLI") for cache in ("off", "disk")]
        figures: dict[str, list[tuple[float, float, float]]] = {}
        tokens: dict[str, str] = {}
        run(command("Writer", "disk", REQUEST.format("zero")), home)  # fills the cache
        for round_ in range(args.rounds):
            for what, cache in kinds:
                name = f"{what}, prefix {'cached on disk' if cache == 'disk' else 'cold'}"
                if what == "CLI":
                    first, end, memory = run_cli(command(what, cache, REQUEST.format(round_)), home)
                else:
                    first, end, memory, tokens[name] = run(command(what, cache, REQUEST.format(round_)), home)
                figures.setdefault(name, []).append((first, end, memory))
            name = "create_chat_completion, cold"
            first, end, memory, tokens[name] = run([python, "-c", CHAT, str(turns), model], home)
            figures.setdefault(name, []).append((first, end, memory))
    rows = []
    for name, measured in figures.items():
        first, end, memory = (list(values) for values in zip(*measured, strict=True))
        rows.append(
            {
                "what": name,
                **{f"first_token_s_{key}": value for key, value in spread(first).items()},
                "answer_s": spread(end)["median"],
                "peak_mb": spread(memory)["median"],
                "prompt_and_cached_tokens": tokens.get(name, ""),
            }
        )
    report("fresh process", rows, args.json)


def run_cli(command: list[str], home: str) -> tuple[float, float, float]:
    """As `run`, where the first token is the first "answer" event of --jsonl."""
    started = time.perf_counter()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env={**os.environ, "PRLM_HOME": home}, **pipes)
    assert process.stdout
    first = 0.0
    for line in process.stdout:
        if not first and b'"answer"' in line[:40]:
            first = time.perf_counter() - started
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0 and first, command
    return first, time.perf_counter() - started, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
