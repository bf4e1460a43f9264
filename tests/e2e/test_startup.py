"""What a process of its own has loaded when the first token comes: each of these costs 20 to 200 ms."""

import json
import subprocess
import sys

import pytest
from helpers import EXAMPLE

pytestmark = pytest.mark.slow
HEAVY = {"asyncio", "filelock", "llama_cpp.llama", "onnxruntime", "pydantic", "rich", "torch", "typer"}
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
    assert not before & (HEAVY | {"numpy", "jinja2", "llama_cpp"})  # an app shows its window by now
    assert not after & HEAVY
    assert ("numpy" in after) == (retriever == "bm25")
