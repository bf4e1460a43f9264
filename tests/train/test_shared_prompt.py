"""Completions behind one shared prompt against TRL's way, a row for each: equal numbers and equal gradients."""

import pytest

torch = pytest.importorskip("torch")

from tiny import make_llama  # noqa: E402

from prlm_edge.train.grpo.shared_prompt import logps_and_entropies, pack, same_prompts  # noqa: E402

PROMPTS = [[5, 6, 7, 8, 9], [11, 12, 13], [5, 6, 7, 8, 9], [11, 12, 13], [5, 6, 7, 8, 9]]
COMPLETIONS = [[20, 21, 22], [30, 31, 32, 33], [23], [34, 35], [24, 25, 26, 27]]


@pytest.fixture(scope="module")
def batch():
    """(input_ids, attention_mask): two prompts' completions mixed, prompts padded left and completions right."""
    rows, masks = [], []
    for prompt, completion in zip(PROMPTS, COMPLETIONS, strict=True):
        left, right = 5 - len(prompt), 4 - len(completion)
        rows.append([0] * left + prompt + completion + [0] * right)
        masks.append([0] * left + [1] * len(prompt + completion) + [0] * right)
    return torch.tensor(rows), torch.tensor(masks)


@pytest.fixture
def model(tmp_path):
    from transformers import AutoModelForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    folder = make_llama(tmp_path / "tiny", vocab_size=64)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    return model


def test_equal_prompts_are_found_whatever_their_padding(batch):
    ids, mask = batch
    assert same_prompts(ids[:, :5], mask[:, :5]) == [[0, 2, 4], [1, 3]]


def test_a_row_holds_the_prompt_once():
    packed = pack(torch.tensor([5, 6, 7]), torch.tensor([[20, 21], [30, 0]]), [2, 1])
    assert packed.input_ids.tolist() == [[5, 6, 7, 20, 7]]
    assert packed.position_ids.tolist() == [[0, 1, 2, 3, 2]]
    assert packed.shift_labels.tolist() == [[-100, -100, 20, 21, 30]]
    seen = packed.seen[0, 0].int().tolist()
    assert seen == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 0, 0, 1]]


def test_numbers_and_gradients_are_those_of_a_row_each(model, batch):
    ids, mask = batch
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :-4] = -100
    plain = model(input_ids=ids, attention_mask=mask, labels=labels, fused_lm_head=True)
    weigh = torch.rand(5, 4, generator=torch.Generator().manual_seed(0))
    real = mask[:, -4:].bool()

    def gradients(logps):
        model.zero_grad()
        (logps * weigh * real).sum().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    theirs, expected = gradients(plain.log_probs[:, -4:]), plain.log_probs[:, -4:].detach()
    logps, entropies = logps_and_entropies(model, ids, mask, 4)
    assert torch.allclose(logps[real], expected[real], atol=1e-5)
    assert torch.allclose(entropies[real], plain.entropy[:, -4:][real], atol=1e-5)
    assert not logps[~real].any() and not entropies[~real].any()
    ours = gradients(logps)
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(ours, theirs, strict=True))
