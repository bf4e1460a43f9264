"""Drawing tokens with numpy: each step of the chain on logits that can be worked out by hand."""

from __future__ import annotations

from collections import Counter, deque
from types import SimpleNamespace

import numpy as np
import pytest

from prlm_edge.backends.engine.decoding import logprob
from prlm_edge.backends.onnx.sampler import PENALTY_WINDOW, OnnxSampler, distribution, penalized
from prlm_edge.types import Sampling

CHANCES = np.array([0.1, 0.4, 0.2, 0.05, 0.25])
LOGITS = np.log(CHANCES).astype(np.float32)
WIDE = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


def source(logits):
    return SimpleNamespace(logits=lambda row: np.asarray(logits, np.float32))


def cut(**values):
    ids, chances = distribution(LOGITS, Sampling(**{**WIDE, **values}))
    assert chances.sum() == pytest.approx(1)
    return ids.tolist(), chances


def test_each_cut_keeps_what_it_should():
    assert cut()[0] == [1, 4, 2, 0, 3]
    assert cut(top_k=2)[0] == [1, 4]
    assert cut(top_p=0.6)[0] == [1, 4]  # .4 is too little, .65 is enough
    assert cut(top_p=0.0)[0] == [1]
    assert cut(min_p=0.45)[0] == [1, 4, 2]  # .18 and more
    assert cut(top_k=3, top_p=0.9, min_p=0.6)[0] == [1, 4]


def test_temperature_comes_last_and_sharpens():
    assert cut()[1] == pytest.approx(sorted(CHANCES, reverse=True), abs=1e-6)
    squared = np.sort(CHANCES**2)[::-1]
    assert cut(temperature=0.5)[1] == pytest.approx(squared / squared.sum(), abs=1e-6)


def test_draws_have_these_chances_and_repeat_with_their_seed():
    def draws(seed):
        sampler = OnnxSampler(Sampling(**WIDE, repeat_penalty=1.0, seed=seed))
        return [sampler.next(source(LOGITS)) for _ in range(4000)]

    counts = Counter(draws(1))
    assert [counts[token] / 4000 for token in range(5)] == pytest.approx(CHANCES, abs=0.03)
    assert draws(1) == draws(1) != draws(2)
    assert draws(-1) == draws(0xFFFFFFFF)  # as llama.cpp takes a negative seed


def test_a_penalty_turns_a_loop_around_within_its_window():
    assert penalized(np.array([2.0, -2.0, 1.0], np.float32), deque([0, 0, 1]), 2.0).tolist() == [1.0, -4.0, 1.0]
    sampler = OnnxSampler(Sampling(repeat_penalty=1.5))
    assert [sampler.next(source([2.0, 1.9, 1.8])) for _ in range(4)] == [0, 1, 2, 0]
    sampler.forget()
    assert sampler.next(source([2.0, 1.9, 1.8])) == 0
    far = OnnxSampler(Sampling(repeat_penalty=1.5))
    far.next(source([2.0, 1.9]))  # token 0
    for _ in range(PENALTY_WINDOW):
        far.next(source([-9.0, 9.0]))
    assert far.next(source([2.0, 2.2])) == 0  # it is out of the window, and token 1 is not


def test_log_probabilities_are_the_models_own():
    assert logprob(LOGITS + 5, 2) == pytest.approx(np.log(0.2), abs=1e-6)
