"""How time and memory grow with k: a fresh `Writer` process for each k, one answer without reasoning.

    python benchmarks/growth.py [MODEL.gguf]

Growth with n is in batch.py, with the profile's size in retrieval.py.
"""

import tempfile
from pathlib import Path

from _common import fresh, medians, parser, report, write_profile

SIZES = (1, 2, 4, 8, 16)
ASK = """
import json, sys
from prlm_edge import Writer, cpu
path, model, k = sys.argv[1:]
with Writer.open(path, model=model, k=int(k), prefix_cache="off", reasoning="off", answer_tokens=12) as writer:
    usage = writer.generate("title for my post on a cold winter and the loaf of week 3").usage
step = usage.decode_s / max(usage.answer_tokens, 1)
print(json.dumps([usage.prompt_tokens, usage.prefill_s, step, (cpu.peak_memory() or 0) / 1e6]))
"""


def main() -> None:
    args = parser(__doc__, 3, model=True).parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as home:
        profile = Path(home, "me.jsonl")
        write_profile(profile, 20)
        for k in SIZES:
            runs = [fresh(ASK, str(profile), str(args.model), str(k), home=home) for _ in range(args.rounds)]
            n_prompt, prefill, step, peak = medians(runs)
            rows.append(
                {
                    "what": f"k = {k}",
                    "prompt_tokens": int(n_prompt),
                    "prefill_s": prefill,
                    "prompt_tps": n_prompt / prefill,
                    "ms_a_token": step * 1e3,
                    "peak_mb": peak,
                }
            )
    report("growth with k", rows, args.json)


if __name__ == "__main__":
    main()
