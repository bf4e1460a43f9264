"""The loop from requests to events with a made-up model, whose next token follows from all that its slot holds."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from zlib import crc32

import pytest

from prlm_edge.backends.engine import batch, local
from prlm_edge.backends.engine.chat_template import CHATML, ChatTemplate
from prlm_edge.backends.engine.prefixes import Prefixes
from prlm_edge.backends.engine.prompt_tokens import CHUNK, PromptTokenizer
from prlm_edge.backends.engine.slots import Cancelled
from prlm_edge.errors import ModelError, UsageError
from prlm_edge.types import Cancel, ModelInfo, Request, Sampling, Span, Turn

END, THI, NK, ANSWER = 0, 200, 201, 202
SPELLED = {END: b"<end>", THI: b"</thi", NK: b"nk>", ANSWER: b"</answer>"}
SAID = [*range(97, 123), 32, 10, END, THI, THI, ANSWER]


class Bytes:
    """A vocabulary of bytes, and of the tags that end a phase."""

    n_tokens, words_apart = 256, False

    def encode_text(self, text, *, trusted=False):
        return list(text.encode())

    def with_bos(self, tokens):
        return tokens

    def piece(self, token):
        return SPELLED.get(token) or bytes([token])

    def is_end(self, token):
        return token == END

    def is_control(self, token):
        return False


class Lists:
    """Slots that are lists of tokens, and check what they are asked."""

    def __init__(self, n_slots, n_cells, *, frees_nothing, recurrent):
        self.held = [[] for _ in range(n_slots)]
        self.n_cells, self._frees_nothing, self._recurrent = n_cells, frees_nothing, recurrent
        self._n_used = 0

    @property
    def lengths(self):
        return list(map(len, self.held))

    def append(self, more, cancel=None):
        assert all(tokens for _, tokens in more)
        assert max(len(tokens) for _, tokens in more) <= CHUNK
        if cancel is not None and cancel.cancelled:
            raise Cancelled
        for slot, tokens in more:
            self.held[slot] += tokens
            self._n_used += len(tokens)
        assert max(self.lengths) <= self.n_cells
        assert self._n_used <= self.n_cells or not self._frees_nothing
        self.rows = [tuple(self.held[slot]) for slot, _ in more]
        return list(range(len(more)))

    def logits(self, row=-1):
        raise NotImplementedError

    def truncate(self, slot, n_tokens=0):
        if n_tokens < len(self.held[slot]):
            del self.held[slot][0 if self._recurrent else n_tokens :]
            self._n_used = sum(self.lengths) if self._recurrent else self._n_used
        return len(self.held[slot])

    def share(self, source, slot, n_tokens):
        assert not self.held[slot]
        self.held[slot] = self.held[source][:n_tokens]

    def save(self, slot=0):
        return bytearray(self.held[slot])

    def restore(self, state, n_tokens, slot=0):
        self.held[slot] = list(state[:n_tokens])
        self._n_used += n_tokens
        return True

    def fits(self, n_new, n_all, n_promised):
        if not self._frees_nothing:
            return n_all <= self.n_cells
        if self._n_used + n_promised + n_new > self.n_cells and sum(self.lengths) + n_promised + n_new <= self.n_cells:
            self._n_used = sum(self.lengths)  # moved together
        return self._n_used + n_promised + n_new <= self.n_cells

    def clear(self):
        self.held, self._n_used = [[] for _ in self.held], 0

    def close(self):
        self.held = None


class Chooser:
    """Draws what follows from the tokens and the seed."""

    def __init__(self, seed):
        self._seed = seed

    def next(self, slots, row=-1):
        held = slots.rows[row]
        return NK if held[-1] == THI else random.Random(crc32(bytes(held)) + self._seed).choice(SAID)

    def forget(self):
        pass

    def close(self):
        pass


class Made(local.Local):
    """A backend over `Lists`."""

    _cell_bytes = 1

    def __init__(self, *, shared=True, recurrent=False):
        super().__init__()
        self._shares_cells, self._recurrent, self._max_slots = shared, recurrent, 1 if recurrent else batch.MAX_SLOTS
        self._vocab = Bytes()
        self._prompts = PromptTokenizer(self._vocab, ChatTemplate(CHATML))
        self.info = ModelInfo("made", n_ctx_max=4096)
        self.sizes, self.freed = [], False

    def _prompt_slots(self, n_cells):
        return Lists(1, n_cells, frees_nothing=False, recurrent=self._recurrent)

    def _batch_slots(self, n_slots, n_cells):
        self.sizes.append(n_slots)
        return Lists(n_slots, n_cells, frees_nothing=self._shares_cells, recurrent=self._recurrent)

    def _make_sampler(self, sampling):
        return Chooser(sampling.seed)

    def _free_model(self):
        self.freed = True


def requests():
    dice = random.Random(0)
    for seed in range(40):
        n_words = dice.choice((1, 1, 5, 60, 200))
        turns = (Turn("system", (Span("Be brief."),)), Turn("user", (Span("rye " * n_words),)))
        budgets = dice.choice(((0, 9), (12, 30), (3, 1), (40, 4)))
        yield Request(turns, Sampling(seed=seed), *budgets, multiline=dice.random() < 0.5)


ASKED = list(requests())


def told(pairs):
    """What each request was told: its texts and how it ended."""
    found = {}
    for place, event in pairs:
        assert not found.get(place, [""])[-1].startswith("done")
        if event.completion:
            done = event.completion
            counts = done.usage.prompt_tokens, done.usage.reasoning_tokens, done.usage.answer_tokens
            found.setdefault(place, []).append(f"done {done.finish_reason} {counts} {done.reasoning_truncated}")
        elif event.type != "prefill":
            found.setdefault(place, []).append(f"{event.type}: {event.text}")
    return [found[place] for place in sorted(found)]


ALONE = [told((0, event) for event in Made().stream(one))[0] for one in ASKED]


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("most_bytes", [1, 2000, 1 << 30])
def test_a_batch_says_what_each_request_says_alone(monkeypatch, recurrent, shared, most_bytes):
    monkeypatch.setattr(local, "BATCH_BYTES", most_bytes)
    monkeypatch.setattr(batch, "_GRAIN", 1)
    backend = Made(shared=shared, recurrent=recurrent)
    assert told(backend.stream_many(ASKED)) == ALONE
    assert (max(backend.sizes) == 1) == (most_bytes == 1 or recurrent)
    assert [told((0, event) for event in backend.stream(one))[0] for one in ASKED] == ALONE  # one after the other


def test_all_kinds_of_endings_are_among_them():
    ends = [one[-1] for one in ALONE]
    assert all(any(word in end for end in ends) for word in ("stop", "length", "True", "False"))


def test_kept_prefixes_change_nothing():
    class Kept(dict):
        files = None

        def find(self, digests, at_least=0):
            return None

        has = dict.__contains__

        def keep(self, digests, n_tokens, state):
            self[digests] = state

    backend = Made()
    backend._prefixes = Prefixes(Kept(), lasting=True)
    assert told(backend.stream_many(ASKED)) == ALONE


@pytest.mark.parametrize("after", range(0, 60, 7))
@pytest.mark.parametrize("n", [1, 20])
def test_whenever_it_is_cancelled_everyone_is_told(after, n):
    backend, cancel, seen = Made(), Cancel(), []
    for place, event in backend.stream_many(ASKED[:n], cancel):
        seen.append((place, event))
        if len(seen) == after:
            cancel.cancel()
    ends = [event.completion.finish_reason for _, event in seen if event.completion]
    assert len(ends) == n
    assert after or "cancelled" not in ends
    assert "cancelled" in ends or n == 1 or not after
    assert told(backend.stream_many(ASKED[:n])) == ALONE[:n]


def test_no_requests_and_one_too_large():
    backend = Made()
    assert list(backend.stream_many([])) == []
    with pytest.raises(UsageError, match="exceed the context of 4096"):
        list(backend.stream_many([*ASKED, replace(ASKED[0], answer_tokens=5000)]))
    assert told(backend.stream_many(ASKED[:3])) == ALONE[:3]


def test_an_abandoned_stream_leaves_the_backend_free():
    backend = Made()
    for n in (1, 20):
        events = backend.stream_many(ASKED[:n])
        next(events)
        with pytest.raises(UsageError, match="still open"):
            next(backend.stream(ASKED[0]))
        events.close()
        assert told(backend.stream_many(ASKED[:n])) == ALONE[:n]


def test_closing_during_a_stream_waits_for_its_end():
    backend = Made()
    stream = backend.stream(ASKED[0])
    next(stream)
    backend.close()
    assert not backend.freed
    assert list(stream)[-1].completion and backend.freed
    with pytest.raises(ModelError, match="closed"):
        next(backend.stream(ASKED[0]))


def test_streams_of_other_threads_wait_and_may_be_cancelled():
    backend, cancel, got = Made(), Cancel(), []
    running = backend.stream(ASKED[0])
    next(running)
    waiting = threading.Thread(target=lambda: got.extend(backend.stream(ASKED[0], cancel)))
    waiting.start()
    cancel.cancel()
    waiting.join(60)
    assert [event.completion.finish_reason for event in got] == ["cancelled"]
    running.close()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda one: told([(0, event) for event in backend.stream(one)])[0], ASKED)) == ALONE


@pytest.mark.parametrize("n_calls", [1, 2, 5])
def test_a_failed_call_is_raised_and_the_next_request_works(monkeypatch, n_calls):
    backend, append, calls = Made(), Lists.append, []

    def fail(slots, more, cancel=None):
        calls.append(1)
        if len(calls) == n_calls:
            raise ModelError("no memory", "free some")
        return append(slots, more, cancel)

    for n in (1, 9):
        calls.clear()
        with monkeypatch.context() as patch, pytest.raises(ModelError, match="no memory"):
            patch.setattr(Lists, "append", fail)
            list(backend.stream_many(ASKED[3 : 3 + n]))
    assert told(backend.stream_many(ASKED)) == ALONE
