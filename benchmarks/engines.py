"""The two engines side by side: llama.cpp and ONNX Runtime, the same weights, the same prompt, each in fresh processes.

    python benchmarks/engines.py [MODEL ...] [--rounds 5] [--tokens 600] [--threads 0]

"cold" is from opening the model to the end of the first answer of one token, its files already in the system's memory;
"prompt" and "answer" are tokens a second of a later request, "first" the time to its first token. The copies that the
engines run, without an adapter, are made before.
"""

import tempfile
from pathlib import Path

from _common import fresh, measure, medians, parser, ratios, report

from prlm_edge.backends import what_runs
from prlm_edge.settings import load_settings

ENGINES = ("gguf", "onnx")
COLUMNS = ("cold_s", "prompt_s", "answer_s", "first_s", "peak_mb")
RUN = """
import json, sys, time
from pathlib import Path
from prlm_edge import cpu
from prlm_edge.backends.llama.backend import LlamaCpp
from prlm_edge.backends.onnx.backend import Onnx
from prlm_edge.types import Request, Sampling, Span, Turn
path, n_tokens, threads = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
WORDS = "Nobody wrote down what the weather did to the loaf that week, and the oven was cold. " * 100
started = time.perf_counter()
model = (Onnx if path.is_dir() else LlamaCpp)(path, n_threads=threads, prefix_cache="off")
def ask(n_prompt, n_answer):
    turns = (Turn("user", (Span("Write a long story that begins so: " + WORDS[:5 * n_prompt]),)),)
    *_, last = model.stream(Request(turns, reasoning_tokens=0, answer_tokens=n_answer, multiline=True,
                                    sampling=Sampling(temperature=0, repeat_penalty=1.3)))
    return last.completion.usage
ask(8, 1)
cold = time.perf_counter() - started
usage = ask(n_tokens, 32)
print(json.dumps([cold, usage.prompt_tokens / usage.prefill_s, usage.answer_tokens / usage.decode_s,
                  usage.prefill_s + usage.decode_s / usage.answer_tokens, (cpu.peak_memory() or 0) / 1e6]))
"""


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, 5)
    options.add_argument("models", nargs="*", default=["smollm2-135m"], metavar="MODEL", help="installed models")
    options.add_argument("--tokens", type=int, default=600, help="of the prompt, about")
    options.add_argument("--threads", type=int, default=0, help="0: as many as fit the machine")
    args = options.parse_args()
    rows = []
    for name in args.models:
        paths: dict[str, Path] = {}
        for engine in ENGINES:
            paths[engine] = what_runs(
                load_settings(env={}, flags={"model": name, "engine": engine, "adapter": "none"})
            ).model
        with tempfile.TemporaryDirectory() as home:

            def run(engine: str, home: str = home, paths: dict[str, Path] = paths) -> list[float]:
                found: list[float] = fresh(RUN, str(paths[engine]), str(args.tokens), str(args.threads), home=home)
                return found

            found = measure({engine: lambda _, engine=engine: run(engine) for engine in ENGINES}, args.rounds)
        for engine in ENGINES:
            rows.append({"what": f"{name}, {engine}", **dict(zip(COLUMNS, medians(found[engine]), strict=True))})
        both = zip(*(zip(*found[engine], strict=True) for engine in reversed(ENGINES)), strict=True)
        ratio = {column: ratios(*one)["ratio_median"] for column, one in zip(COLUMNS, both, strict=True)}
        rows.append({"what": f"{name}, onnx / gguf", **ratio})
    report("engines", rows, args.json)


if __name__ == "__main__":
    main()
