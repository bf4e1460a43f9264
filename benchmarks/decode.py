"""Decode speed side by side in one run: llama.cpp's own loop, prlm-edge, and llama-cpp-python's chat API.

"raw loop" decodes on as many threads as prlm-edge chooses, "all threads" and the chat API on every core. `--busy` runs
all of it alongside one process that never sleeps.

    python benchmarks/decode.py [MODEL.gguf] [--rounds 7]

Each round runs all three, in turn, on the same ~300-token prompt and 64 greedy tokens. Printed are medians, the spread
(10th to 90th percentile) and the ratio to the raw loop of the same round. Goal: prlm-edge >= 0.97 of the raw loop.
"""

import time
from pathlib import Path

from _common import TEXT, busy_neighbour, measure, parser, ratios, report, spread, spreads

from prlm_edge.backends.llama import lib as llama_lib
from prlm_edge.backends.llama.backend import LlamaCpp
from prlm_edge.cpu import default_threads
from prlm_edge.types import Request, Span, Turn

N_TOKENS = 64
TURNS = (Turn("system", (Span("You tell long stories."),)), Turn("user", (Span(TEXT + "Tell a story about it."),)))


class RawLoop:
    """llama_decode + llama_sampler_sample and nothing else: no text, no stops, no cancellation."""

    def __init__(self, path: Path, prompt: list[int], n_threads: int, n_step_threads: int) -> None:
        self.lib, self.prompt = llama_lib.load(), prompt
        self.model = self.lib.llama_model_load_from_file(str(path).encode(), self.lib.llama_model_default_params())
        params = self.lib.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = 1024, 512, 512
        params.n_threads, params.n_threads_batch = n_step_threads, n_threads
        self.ctx = self.lib.llama_init_from_model(self.model, params)
        self.batch = self.lib.llama_batch_init(512, 0, 1)

    def fill(self, i: int, token: int, position: int, logits: bool) -> None:
        batch = self.batch
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, position, 1, int(logits)
        batch.seq_id[i][0] = 0

    def run(self, _round: int) -> tuple[float, float]:
        lib = self.lib
        lib.llama_memory_clear(lib.llama_get_memory(self.ctx), True)
        sampler = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        lib.llama_sampler_chain_add(sampler, lib.llama_sampler_init_greedy())
        for i, token in enumerate(self.prompt):
            self.fill(i, token, i, i == len(self.prompt) - 1)
        self.batch.n_tokens = len(self.prompt)
        start = time.perf_counter()
        assert lib.llama_decode(self.ctx, self.batch) == 0
        token = lib.llama_sampler_sample(sampler, self.ctx, -1)
        middle = time.perf_counter()
        self.batch.n_tokens = 1
        for step in range(N_TOKENS - 1):
            self.fill(0, token, len(self.prompt) + step, True)
            assert lib.llama_decode(self.ctx, self.batch) == 0
            token = lib.llama_sampler_sample(sampler, self.ctx, -1)
        end = time.perf_counter()
        lib.llama_sampler_free(sampler)
        return len(self.prompt) / (middle - start), (N_TOKENS - 1) / (end - middle)


def ours(backend: LlamaCpp, round_: int) -> tuple[float, float]:
    system = Turn("system", (Span(f"{round_} is your number. You tell long stories."),))  # so that nothing is cached
    request = Request((system, *TURNS[1:]), reasoning_tokens=0, answer_tokens=N_TOKENS, multiline=True)
    *_, done = backend.stream(request)
    usage = done.completion.usage
    assert usage.answer_tokens == N_TOKENS, usage
    assert usage.cached_tokens == 0, usage
    return usage.prompt_tokens / usage.prefill_s, (N_TOKENS - 1) / usage.decode_s


def chat_api(llama: object) -> tuple[float, float]:
    llama.reset()
    messages = [{"role": turn.role, "content": turn.text} for turn in TURNS]
    start, times = time.perf_counter(), []
    for _ in llama.create_chat_completion(messages, max_tokens=N_TOKENS, temperature=0.0, stream=True):
        times.append(time.perf_counter())
    n_prompt = llama.n_tokens - N_TOKENS
    return n_prompt / (times[1] - start), (len(times) - 3) / (times[-2] - times[1])


def main() -> None:
    options = parser(__doc__, 7, model=True)
    options.add_argument("--busy", action="store_true", help="alongside one busy process")
    args = options.parse_args()
    path, n_threads = args.model, default_threads()
    backend = LlamaCpp(path, prefix_cache="off")
    list(backend.stream(Request(TURNS, reasoning_tokens=0, answer_tokens=1)))
    from llama_cpp import Llama

    prompt = list(backend.encode_turns(TURNS, reasons=True).tokens)
    llama = Llama(str(path), n_ctx=1024, n_threads=n_threads, n_threads_batch=n_threads, verbose=True)
    llama_lib.load().llama_log_set(llama_lib._keep_alive[0], None)
    runs = {
        "raw loop": RawLoop(path, prompt, n_threads, backend._threads.step).run,
        "raw loop, all threads": RawLoop(path, prompt, n_threads, n_threads).run,
        "prlm-edge": lambda round_: ours(backend, round_),
        "create_chat_completion": lambda _: chat_api(llama),
    }
    neighbour = busy_neighbour() if args.busy else None
    figures = measure(runs, args.rounds)
    if neighbour:
        neighbour.kill()
    raw = [pair[1] for pair in figures["raw loop"]]
    rows = []
    for name, pairs in figures.items():
        prompts, decodes = (list(values) for values in zip(*pairs, strict=True))
        rows.append(
            {
                "what": name,
                "prompt_tps": spread(prompts)["median"],
                **spreads(decodes, "decode_tps"),
                **ratios(decodes, raw),
            }
        )
    report(f"decode, {'alongside one busy process' if args.busy else 'calm'}", rows, args.json)


if __name__ == "__main__":
    main()
