"""What a process of its own has loaded when the first token comes: each of these costs 20 to 200 ms."""

import json
import subprocess
import sys

import pytest
from helpers import EXAMPLE

pytestmark = pytest.mark.slow
HEAVY = {
    "asyncio",
    "dateutil",
    "filelock",
    "jinja2",
    "llama_cpp.llama",
    "numpy",
    "onnxruntime",
    "pydantic",
    "rich",
    "torch",
    "yaml",
}
DRAFT = "We baked again in a cold kitchen. " * 8  # its answer stands as it is drawn
FIRST_TOKEN = """
import json, sys
from prlm_edge import Writer
writer = Writer.open(sys.argv[1], model=sys.argv[2], retriever=sys.argv[3])
for event in writer.stream(sys.argv[4], task="title"):
    if event.type == "loading":
        before = list(sys.modules)
    elif event.text:
        break
print(json.dumps([before, list(sys.modules)]))
"""


def second_run(code, *args):
    """The last line printed by a script that was run before, so that what can be kept is kept."""
    command = [sys.executable, "-c", code, *map(str, args)]
    done = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(2)]
    return json.loads(done[1].stdout.splitlines()[-1])


@pytest.mark.parametrize("retriever", ["bm25", "recency"])
def test_nothing_heavy_is_loaded_before_the_first_token(smollm2_path, retriever):
    before, after = map(set, second_run(FIRST_TOKEN, EXAMPLE, smollm2_path, retriever, DRAFT))
    assert not before & (HEAVY | {"llama_cpp", "typer"})  # an app shows its window by now
    assert not after & (HEAVY | {"typer"})


def test_nothing_heavy_is_loaded_by_generate(merged_path):
    code = "import json, sys; from prlm_edge.cli import main; main(sys.argv[1:]); print(json.dumps(list(sys.modules)))"
    loaded = second_run(code, "generate", "--user", EXAMPLE, "-k", "2", "--task", "title", DRAFT)
    assert not set(loaded) & HEAVY
