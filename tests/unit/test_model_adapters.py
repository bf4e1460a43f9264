"""Which adapter settings mean: a named one, an installed one, none, or the one that comes with prlm-edge."""

import pytest
from helpers import install_model

from prlm_edge.gguf.header import TASKS, check_adapter
from prlm_edge.models import adapters, catalog
from prlm_edge.settings import load_settings, read_config

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def ours(tmp_path, monkeypatch):
    """A voice of smollm2-135m alone."""
    file = tmp_path / "smollm2-135m" / "adapter.gguf"
    file.parent.mkdir()
    file.write_bytes(b"GGUF")
    monkeypatch.setattr(catalog, "VOICES", tmp_path)
    return file


def settings(**flags):
    return load_settings(flags=flags, env={})


@pytest.mark.parametrize("model", ["auto", "small", "smollm2-135m"])
def test_left_open_it_is_ours_over_the_model_it_was_trained_on(ours, model):
    install_model("small")
    assert adapters.adapter_of(settings(model=model)) == ours
    assert adapters.is_ours(settings(model=model))


def test_other_models_servers_and_people_who_want_none_go_without(ours):
    others = ({"model": name} for name in ("qwen3-0.6b", "large", "my.gguf"))
    for given in (*others, {"base_url": "http://127.0.0.1:1/v1"}, {"adapter": "none"}):
        assert adapters.adapter_of(settings(**given)) is None
        assert not adapters.is_ours(settings(**given))


def test_a_named_one_stands_above_ours(ours, tmp_path):
    assert adapters.adapter_of(settings(adapter="my.gguf")).name == "my.gguf"
    assert not adapters.is_ours(settings(adapter="my.gguf"))


def test_a_file_of_settings_can_say_none(ours, tmp_path):
    file = tmp_path / "my.toml"
    file.write_text('adapter = "none"\n')
    assert read_config(file) == {"adapter": "none"}
    assert adapters.adapter_of(load_settings(config=file, env={})) is None


def test_without_the_file_there_is_none(monkeypatch, tmp_path):
    monkeypatch.setattr(catalog, "VOICES", tmp_path)
    assert adapters.adapter_of(settings()) is None


@pytest.mark.parametrize("folder", sorted(catalog.VOICES.iterdir()), ids=lambda folder: folder.name)
def test_every_voice_in_the_box_is_whole(folder):
    model = catalog.registry()[folder.name]
    assert model.rank and model.voice == folder / "adapter.gguf"
    assert (folder / "README.md").is_file()
    header = check_adapter(model.voice)
    assert header.metadata["general.type"] == "adapter" and header.metadata[TASKS]
    assert {tensor.type for tensor in header.tensors} == {1}  # float16: half the size of what a training run writes
