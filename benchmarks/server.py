"""prlm-edge in-process against llama-cpp-python's own server on loopback: time to the first token and to the answer.

    python benchmarks/server.py [MODEL.gguf]

The same prompt of about 300 tokens and 32 greedy tokens, evaluated again each round (its first words differ). Both in
their own defaults; the server has every core.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

from _common import TEXT, measure, parser, ratios, report, spread

from prlm_edge.backends.llama.backend import LlamaCpp
from prlm_edge.types import Request, Span, Turn

N_TOKENS = 32


def ours(backend: LlamaCpp, text: str) -> tuple[float, float]:
    started, first = time.perf_counter(), 0.0
    request = Request((Turn("user", (Span(text),)),), reasoning_tokens=0, answer_tokens=N_TOKENS, multiline=True)
    for event in backend.stream(request):
        if event.type == "answer" and not first:
            first = time.perf_counter() - started
    return first, time.perf_counter() - started


def served(port: int, text: str) -> tuple[float, float]:
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": N_TOKENS, "temperature": 0, "stream": True}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    started, first = time.perf_counter(), 0.0
    with urllib.request.urlopen(request, timeout=120) as reply:
        for line in reply:
            if b'"content"' in line and not first:
                first = time.perf_counter() - started
    return first, time.perf_counter() - started


def wait_for(port: int) -> None:
    for _ in range(300):
        try:
            with socket.create_connection(("127.0.0.1", port), 1):
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("llama_cpp.server did not start")


def main() -> None:
    args = parser(__doc__, 5, model=True).parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(args.model), "--port", str(port)]
    command += ["--n_ctx", "2048", "--n_threads", str(os.cpu_count()), "--verbose", "False"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    backend = LlamaCpp(args.model, prefix_cache="off")
    runs = {
        "prlm-edge": lambda round_: ours(backend, f"{round_} {TEXT}"),
        "llama_cpp.server": lambda round_: served(port, f"{round_} {TEXT}"),
    }
    try:
        wait_for(port)
        figures = measure(runs, args.rounds)
    finally:
        server.kill()
    base = figures["llama_cpp.server"]
    rows = []
    for name, pairs in figures.items():
        row: dict[str, object] = {"what": name}
        for i, what in enumerate(("first_token", "answer")):
            mine, others = [pair[i] for pair in pairs], [pair[i] for pair in base]
            row |= {f"{what}_s": spread(mine)["median"], f"{what}_ratio": ratios(mine, others)["ratio_median"]}
        rows.append(row)
    report("server", rows, args.json)


if __name__ == "__main__":
    main()
