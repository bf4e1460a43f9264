"""An exported reward model chooses among the real model's answers, as users type it: a tiny BERT of random weights."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tiny_reward import MAX_LENGTH, write_tokenizer  # noqa: E402
from transformers import BertConfig, BertForSequenceClassification  # noqa: E402

from prlm_edge.cli import main  # noqa: E402
from prlm_edge.profile import Profile  # noqa: E402
from prlm_edge.rerank.reward.scorer import RewardScorer  # noqa: E402
from prlm_edge.style import style_of  # noqa: E402
from prlm_edge.tasks import get_task  # noqa: E402
from prlm_edge.train.reward import to_onnx as reward_onnx  # noqa: E402
from prlm_edge.train.reward.pairs import Pair  # noqa: E402
from prlm_edge.types import Candidate, Scoring  # noqa: E402
from prlm_edge.writer import make_pool  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.model]
EXAMPLE = Path(__file__).parents[2] / "examples" / "me.jsonl"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    student = tmp_path_factory.mktemp("student")
    size = write_tokenizer(student / "tokenizer.json")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=size, num_labels=1, initializer_range=0.4, **sizes)
    BertForSequenceClassification(config).save_pretrained(student)
    context = Scoring("bread", "title", style_of(["notes on rye", "notes on bread", "notes on yeast"]))
    pairs = [Pair("r", "u", "style", context, chosen, "Bread!", context) for chosen in ("notes on water", "rye")]
    out = tmp_path_factory.mktemp("exported") / "reward"
    reward_onnx.export(student, out, pairs, max_length=MAX_LENGTH, min_correlation=-1, min_agreement=0)
    return out


def test_it_chooses_as_typed_and_without_torch(home, exported, smollm2_path, monkeypatch):
    monkeypatch.setenv("PRLM_MODEL", str(smollm2_path))
    budgets = ["--reasoning-tokens", "24", "--answer-tokens", "16", "-k", "2"]
    code = (
        "import sys; from prlm_edge.cli import main; code = main(sys.argv[1:])\n"
        "assert 'onnxruntime' in sys.modules and not {'torch', 'transformers'} & set(sys.modules)\n"
        "sys.exit(code)"
    )
    argv = [
        "generate",
        "-u",
        str(EXAMPLE),
        *budgets,
        "--best-of",
        "5",
        "--json",
        "title for my post on winter sourdough",
    ]
    ours = [*argv, "--select", "reward", "--reward-model", str(exported)]
    done = subprocess.run([sys.executable, "-c", code, *ours], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["select"] == "reward" and found["answer"] == found["candidates"][0]["answer"]

    task = get_task("title")
    pool = make_pool(Profile.open(EXAMPLE), task)
    items = {item.id: item for item in pool.items}
    past = tuple(task.answer_of(items[hit["id"]]) for hit in found["used"])
    context = Scoring("my post on winter sourdough", "title", pool.style, past=past)
    whole = [one for one in found["candidates"] if one["answer"] and one["finish_reason"] == "stop"]
    expected = RewardScorer(exported).score([Candidate(one["answer"]) for one in whole], context)
    assert [one["score"] for one in whole] == pytest.approx(expected, abs=1e-4)
    assert expected == sorted(expected, reverse=True)
    assert main([*argv, "--select", "reward", "--reward-model", str(exported / "absent")]) == 2
