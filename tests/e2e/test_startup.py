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
    "llama_cpp.llama",
    "numpy",
    "onnxruntime",
    "pydantic",
    "rich",
    "torch",
    "yaml",
}
FIRST_TOKEN = """
import json, sys
from prlm_edge import Writer
writer = Writer.open(sys.argv[1], model=sys.argv[2], retriever=sys.argv[3])
for event in writer.stream("title for my post on winter sourdough"):
    if event.type == "loading":
        before = list(sys.modules)
    elif event.text:
        break
print(json.dumps([before, list(sys.modules)]))
"""


@pytest.mark.parametrize("retriever", ["bm25", "recency"])
def test_nothing_heavy_is_loaded_before_the_first_token(smollm2_path, retriever):
    command = [sys.executable, "-c", FIRST_TOKEN, str(EXAMPLE), str(smollm2_path), retriever]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    before, after = map(set, json.loads(done.stdout))
    assert not before & (HEAVY | {"jinja2", "llama_cpp", "typer"})  # an app shows its window by now
    assert not after & (HEAVY | {"typer"})


def test_nothing_heavy_is_loaded_by_generate(merged_path):
    code = "import json, sys; from prlm_edge.cli import main; main(sys.argv[1:]); print(json.dumps(list(sys.modules)))"
    draft = "We baked again in a cold kitchen. " * 8  # whose answer stands as it is drawn
    ask = ["generate", "--user", str(EXAMPLE), "-k", "2", "--task", "title", draft]
    done = subprocess.run([sys.executable, "-c", code, *ask], capture_output=True, text=True, check=True)
    assert not set(json.loads(done.stdout.splitlines()[-1])) & HEAVY
