"""How time and memory grow with k: a fresh `Writer` process for each k, one answer without reasoning.

    python benchmarks/growth.py [MODEL.gguf]

Growth with n is in batch.py, with the profile's size in retrieval.py.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from _common import parser, report, spread

from prlm_edge import models

SIZES = (1, 2, 4, 8, 16)
POST = "The oven was cold and the dough was slow, and nobody wrote down what the weather did to the loaf in week {}. "
ASK = """
import json, resource, sys
from prlm_edge import Writer
path, model, k = sys.argv[1:]
with Writer.open(path, model=model, k=int(k), prefix_cache="off", reasoning="off", answer_tokens=12) as writer:
    usage = writer.generate("title for my post on a cold winter and the loaf of week 3").usage
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([usage.prompt_tokens, usage.prefill_s, usage.decode_s / max(usage.answer_tokens, 1), peak]))
"""


def main() -> None:
    options = parser(__doc__, 3)
    options.add_argument("model", nargs="?", type=Path)
    args = options.parse_args()
    model = str(args.model or models.resolve("default"))
    rows = []
    with tempfile.TemporaryDirectory() as home:
        profile = Path(home, "me.jsonl")
        items = [{"id": str(i), "text": POST.format(i) * 4, "title": f"the loaf of week {i}"} for i in range(20)]
        profile.write_text("".join(json.dumps(item) + "\n" for item in items))
        for k in SIZES:
            command = [sys.executable, "-c", ASK, str(profile), model, str(k)]
            environment = {**os.environ, "PRLM_HOME": home}
            runs = [
                json.loads(subprocess.run(command, capture_output=True, check=True, env=environment).stdout)
                for _ in range(args.rounds)
            ]
            n_prompt, prefill, step, peak = (spread(list(values))["median"] for values in zip(*runs, strict=True))
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
