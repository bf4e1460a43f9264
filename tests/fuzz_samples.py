"""The valid files that `fuzz.py` damages, as small as they get."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import evaluation

ITEMS = [
    {"id": f"p{i}", "title": f"Bread {i}", "text": f"On bread, part {i}", "date": f"2024-01-0{i + 1}", "kind": "post"}
    | {"source": "x.md", "meta": {"a": 1, "b": ["c"]}}
    for i in range(4)
]
RECIPE = '{"base": {"model": "hf"}, "data": {"limit": 2}, "warmstart": {"lr": 1e-4}, "grpo": {"lr": 1e-5}}'
TEXTS = {
    "config/config.toml": 'user = "../me.jsonl"\nk = 2\ntemperature = 0.5\nretriever = "bm25"\ntop_p = 1\n',
    "config/tasks/headline.toml": """name = "headline"
description = "A headline."
request = "Headline for: {text}"
noun = "headline"
learns_from = "title"
triggers = ["headline for"]
multiline = false
answer_tokens = 4
reasoning_tokens = 4
kinds = ["post"]
avoid_kinds = ["x"]
""",
    "me.jsonl": "".join(json.dumps(one) + "\n" for one in ITEMS),
    "more.jsonl": "".join(json.dumps(one) + "\n" for one in ITEMS),
    "list.json": json.dumps(ITEMS),
    "LaMP_5_questions.json": json.dumps(
        [{"id": "u1", "input": "Generate a title for the following abstract of a paper: x", "profile": ITEMS}]
    ),
    "LaMP_5_outputs.json": '{"task": "LaMP_5", "golds": [{"id": "u1", "output": "y"}]}',
    "note.md": "---\ntitle: A\ndate: 2024-01-01\ntags: [a]\n---\n\n# A\n\n[link](x) `code`\n\n```py\nx\n```\n\n- a\n",
    "table.csv": 'id,title,body,date\n1,"A ""b""",text,2024-01-01\n2,B,"two\nlines",1/2/2024\n',
    "change.diff": """diff --git a/x.py b/x.py
index 1234567..89abcde 100644
--- a/x.py
+++ b/x.py
@@ -1,2 +1,2 @@ def f():
 a
-b
+c
diff --git a/old b/new
similarity index 90%
rename from old
rename to new
""",
    "plan.yaml": '{"settings": {"reasoning": "off"}, "conditions": {"a": {"profile": "none"}}, "grid": {"k": [1]}}',
    "recipe.yaml": RECIPE,
    "trained/recipe.yaml": RECIPE,
    "trained/run.json": '{"format": 1, "stage": "warmstart", "data": {"data.jsonl": "0"}, "steps": 2}',
    "trained/run.jsonl": """{"kind": "step", "step": 1, "loss": 2, "wall_s": 3, "tokens": 5, "terms": {"rouge": 1.0}}
{"kind": "dev", "step": 1, "figures": {"rouge": 0.5}}
{"kind": "stop", "step": 1, "reason": "x", "advice": "y"}
""",
    "trained/samples.jsonl": '{"step": 1, "query": "a", "answer": "b", "target": "c", "terms": {"rouge": 1.0}}\n',
}


def make(home: Path) -> None:
    """Write them all into the folder `home`, which is a PRLM_HOME too."""
    for name, text in TEXTS.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    _runs(home)
    _models(home)


def _runs(home: Path) -> None:
    rows = [evaluation.row(user) for user in range(3)]
    diff = "diff --git a/x.py b/x.py\n--- a/x.py\n+++ b/x.py\n@@ -1 +1 @@ def f():\n-one\n+two\n"
    for one in rows[1:]:
        for asked in (one["query"], one["profile"][0]):
            asked |= {"short": "bread", "diff": diff, "diff_cut": True}
    evaluation.write_rows(home / "data.jsonl", rows)
    run = evaluation.scored_run(home / "run")
    run.append_timing(["k=4"], 6, 2.0)
    source = {"path": "run.jsonl", "limit": None, "per_user": None, "task": None}
    (run.path / "run.json").write_text(json.dumps({**run.header, "source": source}))
    votes = '{"a": "run:k=4", "b": "run:k=1"}\n{"row": "u0/q0", "user": "u0", "vote": "a", "at": "2024"}\n'
    (run.path / "votes.jsonl").write_text(votes)


def _models(home: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parent / "export"))
    from tiny_lm import make_adapter, make_lm
    from tiny_onnx import exported
    from tiny_reward import make_reward_model

    from prlm_edge.export.gguf.model import About, write_gguf
    from prlm_edge.gguf.lora import write_lora_gguf
    from prlm_edge.models import store
    from prlm_edge.rerank import blend

    shutil.copytree(exported(home / "made", "llama", "int8").folder, home / "onnx")
    make_reward_model(home / "reward")
    shutil.copy(blend.BUNDLED, home / "blend.json")
    base, adapter, file = make_lm(home / "hf", "llama", tie_word_embeddings=True), home / "adapter", home / "model.gguf"
    make_adapter(base, adapter)
    shutil.copytree(adapter, home / "trained" / "adapter")
    write_gguf(base, file, About("Tiny", False, "apache-2.0"))
    write_lora_gguf(adapter, json.loads((base / "config.json").read_text()), home / "lora.gguf")
    mine = home / "data" / "models" / "mine"
    for folder in (home / "export", mine):
        folder.mkdir(parents=True)
        shutil.copy(file, folder)
    entry = {"name": file.name, "size": file.stat().st_size, "sha256": store.hash_file(file)}
    export = {"version": 1, "kind": "llm", "name": "other", "licence": "MIT", "verification": {"ok": True}}
    (home / "export" / "export.json").write_text(json.dumps({**export, "files": [entry]}))
    store.write_manifest(mine, store.Manifest("mine", "llm", "MIT", store.SOURCE, (store.InstalledFile(**entry),)))
    tuned = {"file": file.name, "size": entry["size"], "sha256": entry["sha256"], "format": "x"}
    (mine / "tuned.json").write_text(json.dumps({**tuned, "source_sha256": entry["sha256"]}))
