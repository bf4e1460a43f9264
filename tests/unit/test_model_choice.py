"""Which model `auto` means, by what is pulled, which voices there are, memory, cores and what was measured."""

import json
from dataclasses import replace

import pytest
from helpers import install_model

from prlm_edge import cpu, models
from prlm_edge.errors import MissingError
from prlm_edge.models import catalog, choice
from prlm_edge.settings import load_settings

pytestmark = pytest.mark.usefixtures("home", "no_network")
SMALL, MEDIUM, LARGE = "smollm2-135m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"
ALL = (SMALL, MEDIUM, LARGE)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """`machine(cores, memory in GB, voices)`; the facts that choices depend on are fixed, whatever models.toml says."""
    facts = {SMALL: (400, 1.0), MEDIUM: (800, 2.0), LARGE: (1700, 6.0)}
    known = {
        name: replace(model, memory_mb=facts[name][0], seconds=facts[name][1]) if name in facts else model
        for name, model in catalog.registry().items()
    }
    monkeypatch.setattr(catalog, "registry", lambda: known)
    monkeypatch.setattr(choice, "registry", lambda: known)
    monkeypatch.setattr(choice, "limits", lambda: (3.0, 0.5))
    monkeypatch.setattr(catalog, "VOICES", tmp_path / "voices")

    def make(cores=2, memory_gb=8.0, voices=ALL):
        monkeypatch.setattr(cpu, "default_threads", lambda: cores)
        monkeypatch.setattr(cpu, "memory", lambda: memory_gb and (int(memory_gb * 1e9), 0))
        for name in voices:
            (tmp_path / "voices" / name).mkdir(parents=True)
            (tmp_path / "voices" / name / "adapter.gguf").write_bytes(b"GGUF")

    return make


def auto():
    return choice.chosen(load_settings(env={})).model


@pytest.mark.parametrize(
    ("pulled", "given", "name"),
    [
        ((), {}, "default"),  # the default, whatever that is: loading it says what to pull
        ((LARGE,), {"cores": 1, "memory_gb": 1.0}, LARGE),  # the only one: no question
        ((SMALL, MEDIUM), {}, MEDIUM),
        ((SMALL, MEDIUM, LARGE), {}, MEDIUM),  # the large one is too slow on two cores
        ((SMALL, MEDIUM, LARGE), {"cores": 8}, LARGE),
        ((SMALL, MEDIUM, LARGE), {"cores": 8, "memory_gb": None}, LARGE),  # nobody knows how much there is
        ((SMALL, MEDIUM, LARGE), {"cores": 8, "memory_gb": 3.0}, MEDIUM),
        ((SMALL, MEDIUM, LARGE), {"cores": 1}, SMALL),
        ((SMALL, MEDIUM, LARGE), {"memory_gb": 0.5}, SMALL),  # none fits: the least
        ((SMALL, MEDIUM), {"voices": (SMALL,)}, SMALL),  # no voice for the other
        ((SMALL, MEDIUM), {"voices": (SMALL,), "memory_gb": 0.5}, SMALL),
        ((MEDIUM, "qwen3-0.6b"), {"voices": ()}, MEDIUM),
        (("qwen3-0.6b", "minilm"), {}, "qwen3-0.6b"),
        (("minilm",), {}, "default"),
        (("hf://owner/repo/x.gguf",), {}, "hf://owner/repo/x.gguf"),
    ],
)
def test_what_auto_means(machine, pulled, given, name):
    machine(**given)
    for one in pulled:
        install_model(one)
    assert auto() == models.find(name).name


@pytest.mark.parametrize(
    ("prompt_s", "answer_s", "change", "name"),
    [
        (400.0, 30.0, {}, LARGE),  # 2.0 s
        (220.0, 20.0, {}, MEDIUM),  # 3.5 s
        (400.0, 10.0, {}, MEDIUM),  # 3.1 s
        (400.0, 30.0, {"cpu": "another machine"}, MEDIUM),  # then by the registry's figure
        (400.0, 30.0, {"threads": 64}, MEDIUM),
        (400.0, 30.0, {"size": 1}, MEDIUM),
        (400.0, 30.0, {"file": "gone.gguf"}, MEDIUM),
        (400.0, 30.0, {"prompt_s": 0}, MEDIUM),
        (400.0, 30.0, {"prompt_s": "x"}, MEDIUM),
    ],
)
def test_what_was_measured_counts_before_what_is_guessed(machine, prompt_s, answer_s, change, name):
    machine()
    for one in ALL:
        path = install_model(one)
    choice.keep_speed(path, prompt_s, answer_s)
    record = path.parent / "speed.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | change))
    assert auto() == name


def test_settings_that_name_a_model_or_a_server_are_left_alone(machine):
    machine()
    for given in ({"model": "minilm"}, {"model": "x.gguf"}, {"model": "default"}):
        settings = load_settings(env={}, flags=given)
        assert choice.chosen(settings) is settings
    server = load_settings(env={}, flags={"base_url": "http://127.0.0.1:1/v1"})
    assert choice.chosen(server).model == "default"


def test_what_a_better_one_would_need(machine):
    machine(cores=2, memory_gb=3.0, voices=(SMALL, LARGE))
    [large] = choice.better_than(SMALL)
    assert large.model.name == LARGE and "needs 1.7 GB of memory" in large.problem
    assert not list(choice.better_than(LARGE)) and not list(choice.better_than("x.gguf"))


def test_where_nothing_is_pulled_loading_says_what_to_do(machine):
    machine()
    with pytest.raises(MissingError) as error:
        models.resolve(auto())
    assert error.value.hint.startswith("prlm-edge model pull")
