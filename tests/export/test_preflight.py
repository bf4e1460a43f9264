"""What can't be exported is refused before any work, in one line."""

import json
import shutil

import pytest
from tiny_lm import edit, make_adapter, make_lm

torch = pytest.importorskip("torch")

from prlm_edge.errors import ModelError, PrlmError, UsageError  # noqa: E402
from prlm_edge.export.check.preflight import check  # noqa: E402


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    work = tmp_path_factory.mktemp("preflight")
    folder = make_lm(work / "base", "qwen3", pre="qwen2", head_dim=32)
    adapter = make_adapter(folder, work / "adapter", use_dora=True)
    shutil.copy(folder / "tokenizer.json", adapter)
    shutil.copy(folder / "chat_template.jinja", adapter)
    return adapter, folder


@pytest.fixture
def made(whole, tmp_path):
    """Copies of the adapter and its base."""
    return shutil.copytree(whole[0], tmp_path / "adapter"), shutil.copytree(whole[1], tmp_path / "base")


def test_what_fits_passes(made, tmp_path):
    check(*made, tmp_path / "out" / "deep", ("q4_0", "q8_0"))
    check(*made)


def _one_layer_less(adapter, base):
    edit(base / "config.json", num_hidden_layers=1, layer_types=["full_attention"])


def _one_id_more(adapter, base):
    edit(base / "generation_config.json", eos_token_id=[2, 5, 6, 7])


BROKEN = {
    "architecture": (lambda a, b: edit(b / "config.json", model_type="gpt2"), ModelError, "gpt2 models"),
    "no base": (lambda a, b: (b / "config.json").unlink(), ModelError, "config.json can't be read"),
    "no adapter": (lambda a, b: (a / "adapter_config.json").unlink(), UsageError, "no adapter in it"),
    "damaged": (lambda a, b: (a / "adapter_model.safetensors").write_bytes(b"x" * 99), ModelError, "damaged adapter"),
    "no object": (lambda a, b: (a / "adapter_config.json").write_text("[]"), ModelError, "damaged adapter"),
    "no rank": (lambda a, b: edit(a / "adapter_config.json", r="x"), ModelError, "damaged adapter"),
    "kind": (lambda a, b: edit(a / "adapter_config.json", peft_type="IA3"), ModelError, "type IA3"),
    "bias": (lambda a, b: edit(a / "adapter_config.json", bias="all"), ModelError, "bias all"),
    "saved": (lambda a, b: edit(a / "adapter_config.json", modules_to_save=["lm_head"]), ModelError, "modules_to_save"),
    "sizes": (lambda a, b: edit(b / "config.json", head_dim=16), UsageError, "does not fit this base"),
    "layers": (_one_layer_less, UsageError, "does not fit.*layers.1"),
    "odd config": (lambda a, b: edit(b / "config.json", num_hidden_layers=1), ModelError, "config.json can't be read"),
    "tokenizer": (lambda a, b: edit(a / "tokenizer.json", version="1.1"), UsageError, "its tokenizer.json is not"),
    "template": (lambda a, b: (a / "chat_template.jinja").write_text("x"), UsageError, "its chat_template.jinja"),
    "no template": (lambda a, b: (b / "chat_template.jinja").unlink(), ModelError, "no chat template"),
    "ends": (_one_id_more, ModelError, "4 tokens end a turn"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_does_not_fit_is_refused(made, tmp_path, what):
    breaks, kind, message = BROKEN[what]
    breaks(*made)
    with pytest.raises(kind, match=message) as error:
        check(*made, tmp_path / "out")
    assert "\n" not in error.value.message and error.value.hint
    assert not (tmp_path / "out").exists()


def test_unknown_ways_to_split_texts(made):
    adapter, base = made
    table = json.loads((base / "tokenizer.json").read_text())
    table["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": r"\s+"}
    (base / "tokenizer.json").write_text(json.dumps(table))
    (adapter / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"no name for the way this tokenizer splits texts \(Split, ByteLevel\)"):
        check(adapter, base)


def test_too_little_space(made, tmp_path):
    from helpers import mounted

    with mounted(tmp_path / "small", "size=200k") as disk, pytest.raises(PrlmError, match="MB are needed"):
        check(*made, disk)
