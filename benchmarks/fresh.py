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
from collections.abc import Callable
from functools import partial
from pathlib import Path

from _common import environment, measure, parser, report, spread, spreads, write_profile

REQUEST = "title for my post on a long cold winter and the sourdough that would not rise before march, week {}"
N_ITEMS = 12
OURS = "retriever", "recency", "k", str(N_ITEMS), "reasoning", "off", "answer_tokens", "12", "item_words", "90"
FLAGS = [f"--{one.replace('_', '-')}" if len(one) > 1 else f"-{one}" for one in OURS[::2]]
CLI = [word for pair in zip(FLAGS, OURS[1::2], strict=True) for word in pair]
Figures = tuple[float, float, float, str]
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


def run(command: Callable[[str], list[str]], home: str, first_of: bytes, round_: int) -> Figures:
    """Seconds to the first token (a line that holds `first_of`) and to the end, peak memory in MB, the last line."""
    started, first, line = time.perf_counter(), 0.0, b""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    words = command(REQUEST.format(round_))
    process = subprocess.Popen(words, env=environment(home), **pipes)
    assert process.stdout
    for line in process.stdout:
        if not first and first_of in line[:40]:
            first = time.perf_counter() - started
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0 and first, words
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    return first, time.perf_counter() - started, peak, line.decode().strip()


def main() -> None:
    args = parser(__doc__, 5, model=True).parse_args()
    model, python, prlm = str(args.model), sys.executable, str(Path(sys.executable).with_name("prlm-edge"))
    with tempfile.TemporaryDirectory() as home:
        profile, turns = Path(home, "me.jsonl"), Path(home, "turns.json")
        write_profile(profile, N_ITEMS)
        ask = [prlm, "generate", "--user", str(profile), "--model", model, *CLI]
        dry = subprocess.run([*ask, "--dry-run", "--json", REQUEST.format(0)], capture_output=True, check=True)
        chat = [{"role": turn["role"], "content": turn["text"]} for turn in json.loads(dry.stdout)["turns"]]
        turns.write_text(json.dumps(chat))

        def writer(cache: str, request: str) -> list[str]:
            return [python, "-c", WRITER, str(profile), model, cache, request, *OURS]

        def cli(cache: str, request: str) -> list[str]:
            return [*ask, "--prefix-cache", cache, "--jsonl", request]

        runs = {
            f"{name}, prefix {'cached on disk' if cache == 'disk' else 'cold'}": partial(
                run, partial(command, cache), home, first_of
            )
            for name, command, first_of in (("Writer", writer, b"first"), ("CLI", cli, b'"answer"'))
            for cache in ("off", "disk")
        }
        their_own = [python, "-c", CHAT, str(turns), model]
        runs["create_chat_completion, cold"] = partial(run, lambda _: their_own, home, b"first")
        found = measure(runs, args.rounds)  # the round that warms up fills the cache
    rows = []
    for name, measured in found.items():
        first, end, memory, last = (list(values) for values in zip(*measured, strict=True))
        rows.append(
            {
                "what": name,
                **spreads(first, "first_token_s"),
                "answer_s": spread(end)["median"],
                "peak_mb": spread(memory)["median"],
                "prompt_and_cached_tokens": "" if name.startswith("CLI") else last[-1],
            }
        )
    report("fresh process", rows, args.json)


if __name__ == "__main__":
    main()
