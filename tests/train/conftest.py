"""A tiny untrained model with the real tokenizer, and rows that are ours: training in seconds."""

import json

import pytest

pytest.importorskip("torch")


@pytest.fixture(scope="session")
def smollm2_folder(smollm2_path, tmp_path_factory):
    """The real default model as a Hugging Face folder."""
    from prlm_edge.train import base

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRLM_HOME", str(tmp_path_factory.mktemp("base")))
        folder = tmp_path_factory.mktemp("folder") / "smollm2"
        original = smollm2_path.parent / "SmolLM2-135M-Instruct.Q4_1.gguf"
        base._unpack(original, folder)
    return folder


@pytest.fixture(scope="session")
def tiny_folder(smollm2_folder, tmp_path_factory):
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=49152,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=True,
            bos_token_id=1,
            eos_token_id=2,
        )
    ).save_pretrained(folder)
    AutoTokenizer.from_pretrained(smollm2_folder).save_pretrained(folder)
    return folder


@pytest.fixture
def rows_file(tmp_path):
    """Twelve users with six past commits each."""
    path = tmp_path / "rows.jsonl"
    with path.open("w") as stream:
        for user in range(12):
            tag = ["docs", "ci", "core"][user % 3]
            items = [
                {
                    "id": f"u{user}-{i}",
                    "title": f"{tag}: mend part {i} of the parser",
                    "text": f"Changed files: {tag}/part{i}.py\n\nThe parser of part {i} lost its last line.",
                    "date": f"2024-0{i + 1}-01",
                }
                for i in range(7)
            ]
            *profile, last = items
            row = {
                "user_id": f"u{user}",
                "task": "commit_subject",
                "query": {"id": last["id"], "text": last["text"], "date": last["date"]},
                "target": last["title"],
                "profile": profile,
            }
            stream.write(json.dumps(row) + "\n")
    return path
