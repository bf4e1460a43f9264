"""Rollouts by the trained model itself: the same format as llama.cpp's engine, the policy's own log-probabilities."""

from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from transformers import GenerationConfig, RepetitionPenaltyLogitsProcessor  # noqa: E402

from prlm_edge.backends.engine.decoding import Decoding  # noqa: E402
from prlm_edge.backends.onnx.vocab import FastVocab  # noqa: E402
from prlm_edge.errors import PrlmError  # noqa: E402
from prlm_edge.prompt import TO_ANSWER  # noqa: E402
from prlm_edge.train import base, config  # noqa: E402
from prlm_edge.train.data import prompts  # noqa: E402
from prlm_edge.train.data.prompts import PLAIN  # noqa: E402
from prlm_edge.train.grpo import generating  # noqa: E402
from prlm_edge.train.grpo.rollout import rollout_of  # noqa: E402
from prlm_edge.train.grpo.rollout_hf import HfDrawer  # noqa: E402
from prlm_edge.train.grpo.rollout_llama import LlamaDrawer  # noqa: E402
from prlm_edge.train.types import Ask  # noqa: E402
from prlm_edge.types import Cancel, Request, Sampling  # noqa: E402
from prlm_edge.writer import Reply  # noqa: E402

pytestmark = pytest.mark.model


def prepared(tiny_folder, rows_file, *overrides):
    given = {"data.files": [str(rows_file)], "base.model": str(tiny_folder)}
    small = ["base.precision=fp32", "lora.r=4", "data.k=2", "data.reasoning=mixed", "grpo.reasoning_tokens=9"]
    recipe = config.load("edge-cpu", [*small, *overrides], given)
    tokens = base.load_tokens(tiny_folder, 1024)
    return recipe, tokens, prompts.read(recipe.data.files, recipe, tokens, limit=None)[0]


def policy_of(folder, recipe):
    """The model with an adapter that changes what it says, in training."""
    nf4 = recipe.base.precision == "nf4"
    model = base.load_model(folder, recipe.base)
    torch.manual_seed(1)
    policy = base.add_adapter(model, recipe.lora, checkpointing=False, nf4=nf4)
    for name, weight in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return policy.train()


def engine_of(folder, recipe, tokens, policy=None):
    engine = HfDrawer(recipe, folder, tokens)
    engine.load(policy or policy_of(folder, recipe))
    return engine


@pytest.fixture
def ready(tiny_folder, rows_file):
    recipe, tokens, asked = prepared(tiny_folder, rows_file)
    policy = policy_of(tiny_folder, recipe)
    return recipe, tokens, asked, policy, engine_of(tiny_folder, recipe, tokens, policy)


# --- the format


def test_a_vocabulary_is_what_llama_cpp_takes_it_for(tokens, runtime):
    """Every token's bytes, and whether it ends a turn; so a phase ends at the same token for both."""
    ours, theirs = tokens.vocab, runtime._vocab
    ids = range(theirs.n_tokens)
    assert [token for token in ids if ours.piece(token) != theirs.piece(token)] == []
    ends = {vocab: [t for t in ids if vocab.is_end(t) or vocab.is_control(t)] for vocab in (ours, theirs)}
    assert ends[ours] == ends[theirs] and len(ends[ours]) > 10
    assert ours.is_end(tokens.tokenizer.eos_token_id)
    assert ours.piece(theirs.n_tokens + 7) == b""


def test_sentencepiece_spells_spaces_and_bytes_otherwise():
    from tokenizers import AddedToken, Tokenizer, decoders, models

    words = {"<unk>": 0, "\u2581rye": 1, "<0x0A>": 2, "<0xC3>": 3, "a\u2581b": 4}
    backend = Tokenizer(models.BPE(words, [], unk_token="<unk>", byte_fallback=True))
    backend.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    backend.add_special_tokens([AddedToken("</s>", special=True)])
    pieces = FastVocab(backend, [5])
    assert [pieces.piece(token) for token in range(1, 6)] == [b" rye", b"\n", b"\xc3", b"a b", b"</s>"]
    assert pieces.is_end(5) and pieces.is_control(5) and not pieces.is_control(1)


@pytest.fixture(scope="module")
def scripted_engine(tiny_folder, tokens):
    recipe = config.load("edge-cpu", ["base.precision=fp32", "lora.r=4"])
    return engine_of(tiny_folder, recipe, tokens)


@contextmanager
def scripted(monkeypatch, script):
    """Whoever draws by Transformers draws these tokens."""
    left = list(script)

    def choose(logprobs, chances):
        return torch.tensor([left.pop(0)])

    with monkeypatch.context() as patch:
        patch.setattr(generating, "choose", choose)
        yield left


def by_llama_cpp(prompt, script, runtime, tokens):
    """What the runtime's own decoding makes of the tokens of a script."""
    left = list(script)
    sampler = SimpleNamespace(next=lambda slots, row: left.pop(0), forget=lambda: None, close=lambda: None)
    slots = SimpleNamespace(logits=lambda row: np.zeros(len(tokens.tokenizer), np.float32))
    to_answer = tokens.encode_text(TO_ANSWER, trusted=True)
    decoding = Decoding(0, prompt.request, SimpleNamespace(tokens=prompt.ids), runtime._vocab, to_answer, sampler)
    reply = Reply(prompt.request)
    while not decoding.finished:
        for event in decoding.draw(slots):
            reply.take(event)
    return rollout_of(prompt, reply, tokens), left


@pytest.mark.parametrize(
    ("script", "reasoning", "multiline"),
    [
        ("About rye.</think>\nno<answer>ignored", 12, False),
        ("rye wins</answer>", 12, False),
        ("one two three four five six seven eight nine ten eleven twelve thirteen", 6, False),
        ("thought<answer>title</answer>", 12, False),
        ("thought<|im_end|>title</answer>", 12, False),
        ("thought<|im_start|>title<|im_start|>", 12, False),
        ("</think>title\nsecond line", 12, False),
        ("</think>\n\n title\nsecond line", 12, False),
        ("</think>\n\n title\nsecond line</answer>", 12, True),
        ("a </thin b </think> c </answ d </answer>", 14, False),
        ("🙂🙂🙂🙂🙂🙂🙂🙂🙂", 5, False),
        ("<|im_end|><|im_end|>", 12, False),
        ("rye wins</answer>", 0, False),
        ("\nrye wins\n", 0, False),
        ("<|im_end|>", 0, True),
        ("日本語のテキスト 日本語のテキスト", 0, True),
    ],
)
def test_of_the_same_tokens_both_engines_make_the_same(
    scripted_engine, tokens, runtime, monkeypatch, script, reasoning, multiline
):
    drawn = tokens.encode_text(script, trusted=True) + tokens.encode_text(" more and more" * 20)
    request = Request((), PLAIN, reasoning, 8, multiline, logprobs=True)
    prompt = Ask("p", request, (1, 2, 3), None, "")
    with scripted(monkeypatch, drawn) as left:
        ours = scripted_engine.draw([prompt], "0")[0]
    theirs, also_left = by_llama_cpp(prompt, drawn, runtime, tokens)
    said, also_said = (replace(one.said, seed=0, logprob=None) for one in (ours, theirs))
    assert (ours.ids, ours.drawn, ours.n_reasoning, said) == (theirs.ids, theirs.drawn, theirs.n_reasoning, also_said)
    assert left == also_left
    assert [value < 0 for value in ours.logprobs] == [value < 0 for value in theirs.logprobs] == list(ours.drawn)


# --- the draws


def test_log_probabilities_are_those_of_a_plain_pass(ready):
    """Whatever stands beside a row: prompts of other lengths, equal ones, with reasoning and without."""
    _, tokens, asked, policy, engine = ready
    some = [asked[0], asked[0], *asked[1:7]]
    assert len({len(one.ids) for one in some}) > 2
    assert {one.request.reasoning_tokens for one in some} == {0, 9}
    found = engine.draw(some, "0")
    policy.eval()
    for prompt, one in zip(some, found, strict=True):
        ids = torch.tensor([[*prompt.ids, *one.ids]])
        with torch.no_grad():
            logits = policy(input_ids=ids).logits[0, len(prompt.ids) - 1 : -1]
        theirs = logits.log_softmax(-1)[torch.arange(len(one.ids)), torch.tensor(one.ids)]
        drawn = torch.tensor(one.drawn)
        torch.testing.assert_close(theirs[drawn], torch.tensor(one.logprobs)[drawn], atol=2e-5, rtol=0)
        assert one.ask is prompt
        text = tokens.tokenizer.decode(one.ids)
        assert text.count("<answer>") == int(prompt.request.reasoning_tokens > 0)


def test_equal_seeds_draw_the_same_whatever_is_beside_them(ready, tiny_folder):
    recipe, tokens, asked, policy, engine = ready
    some = [asked[0], asked[0], *asked[1:6]]
    found = engine.draw(some, "0")
    assert engine.draw(some, "0") == found
    assert found[0].ids != found[1].ids  # by their place
    assert [one.ids for one in engine.draw(some, "1")] != [one.ids for one in found]
    assert engine.draw(some[:2], "0")[1].ids == found[1].ids
    few = recipe.model_copy(update={"grpo": recipe.grpo.model_copy(update={"micro_batch": 1})})
    assert [one.ids for one in engine_of(tiny_folder, few, tokens, policy).draw(some, "0")] == [
        one.ids for one in found
    ]
    other = recipe.model_copy(update={"seed": 1})
    assert engine_of(tiny_folder, other, tokens, policy).draw(some, "0") != found


def test_a_draw_leaves_no_trace(ready):
    """The trainer's generator, the modes of its modules and the model's own settings stay; these play no part."""
    _, _, asked, policy, engine = ready
    found = engine.draw(asked[:2], "0")
    model = policy.get_base_model()
    model.generation_config = own = GenerationConfig(
        repetition_penalty=5.0, do_sample=True, temperature=0.1, min_new_tokens=30, eos_token_id=7
    )
    policy.train()
    frozen = next(module for name, module in policy.named_modules() if name.endswith("mlp"))
    frozen.eval()
    modes = [module.training for module in policy.modules()]
    state = torch.get_rng_state()
    assert engine.draw(asked[:2], "0") == found
    engine.best(asked[:2], Sampling())
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in policy.modules()] == modes and len(set(modes)) == 2
    assert model.generation_config is own and torch.is_grad_enabled()


def test_tokens_come_as_often_as_they_should():
    logprobs = torch.tensor([[0.5, 0.0, 0.25, 0.125, 0.125, 0.0]]).log().expand(1000, -1)
    drawn = generating.choose(logprobs, [(n + 0.5) / 1000 for n in range(1000)])
    assert torch.bincount(drawn, minlength=6).tolist() == [500, 0, 250, 125, 125, 0]
    ends = torch.tensor([[0.0, 1.0, 0.0]]).log().expand(2, -1)
    assert generating.choose(ends, [0.0, 1 - 2**-53]).tolist() == [1, 1]
    assert generating.choose(logprobs[:2], [None, 0.99]).tolist() == [0, 4]


def test_the_penalty_is_llama_cpps():
    """Transformers' own, were it kept to the last 64 tokens that were written."""
    torch.manual_seed(0)
    scores, ids = torch.randn(3, 500), torch.randint(0, 500, (3, 100))
    theirs = RepetitionPenaltyLogitsProcessor(1.3)(ids[:, -64:], scores)
    assert torch.equal(generating.penalized(scores, ids, 1.3), theirs)
    assert not torch.equal(theirs, RepetitionPenaltyLogitsProcessor(1.3)(ids, scores))
    assert torch.equal(generating.penalized(scores, ids[:, :0], 1.3), scores)


def test_the_best_answers_are_penalized_for_what_their_own_phase_repeats(ready, monkeypatch):
    _, _, asked, _, engine = ready
    prompt = next(one for one in asked if one.request.reasoning_tokens)
    seen = []

    def penalized(scores, written, penalty):
        seen.append((written.shape[1], penalty))
        return scores

    monkeypatch.setattr(generating, "penalized", penalized)
    plain = engine.best([prompt], Sampling(repeat_penalty=1.0))
    again = engine.best([prompt], Sampling(repeat_penalty=1.0, seed=9))
    assert plain[0].ids == again[0].ids and not seen
    assert plain == engine.best([prompt], Sampling(repeat_penalty=1.3))
    assert seen[:9] == [(n, 1.3) for n in range(9)]  # reasoning, up to its budget
    assert seen[9:] == [(n, 1.3) for n in range(len(seen) - 9)] and len(seen) > 12


def test_a_stop_is_heard_within_a_draw(ready, monkeypatch):
    _, _, asked, policy, engine = ready
    cancel, seen = Cancel(), []

    def choose(logprobs, chances):
        seen.append(1)
        if len(seen) == 3:
            cancel.cancel()
        return logprobs.argmax(-1)

    monkeypatch.setattr(generating, "choose", choose)
    with pytest.raises(PrlmError, match="stopped"):
        engine.draw(asked[:3], "0", cancel)
    assert len(seen) <= 4 and policy.training


def test_an_adapter_in_a_folder_draws_as_the_policy_does(ready, tiny_folder, tmp_path):
    recipe, tokens, asked, policy, engine = ready
    policy.save_pretrained(tmp_path / "adapter")
    other = HfDrawer(recipe, tiny_folder, tokens)
    other.load_folder(tmp_path / "adapter")
    assert other.draw(asked[:3], "0") == engine.draw(asked[:3], "0")
    other.close()
    other.close()


# --- what training needs of it


def test_gradients_over_nf4_are_right_after_a_rollout(tiny_folder, rows_file):
    """bitsandbytes must not repack the weights when the policy draws."""
    recipe, tokens, asked = prepared(tiny_folder, rows_file, "base.precision=nf4")

    def gradients(draws):
        policy = policy_of(tiny_folder, recipe)
        if draws:
            found = engine_of(tiny_folder, recipe, tokens, policy).draw(asked[:4], "0")
            assert all(one.ids for one in found)
        ids = torch.tensor([asked[0].ids])
        policy(input_ids=ids, labels=ids).loss.backward()
        return {name: weight.grad for name, weight in policy.named_parameters() if weight.grad is not None}

    before, after = gradients(False), gradients(True)
    assert before and before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow
def test_dev_answers_are_those_of_llama_cpp(original_path, smollm2_folder, rows_file, tmp_path):
    """Greedy, with the penalty, over the weights of the same GGUF file; near ties may fall either way."""
    import json

    recipe, tokens, asked = prepared(smollm2_folder, rows_file, "data.reasoning=false")
    settings = json.loads((smollm2_folder / "config.json").read_text())
    llama = LlamaDrawer(original_path, settings, tmp_path, tokens, n_ctx=1024, seed=0)
    try:
        theirs = llama.best(asked[:6], Sampling(repeat_penalty=1.3))
    finally:
        llama.close()
    policy = base.add_adapter(base.load_model(smollm2_folder, recipe.base), recipe.lora, checkpointing=False, nf4=False)
    ours = engine_of(smollm2_folder, recipe, tokens, policy).best(asked[:6], Sampling(repeat_penalty=1.3))
    assert sum(a.said.answer == b.said.answer for a, b in zip(ours, theirs, strict=True)) >= 3, (ours, theirs)
