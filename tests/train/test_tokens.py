"""The trainer's tokens are the runtime's: texts, whole prompts, and what is to be learned behind them."""

import pytest
from evaluation import real_texts

from prlm_edge.types import Span, Turn

pytestmark = pytest.mark.model


def test_five_hundred_real_texts(tokens, runtime):
    some = real_texts()
    assert len(some) == 500
    assert [t for t in some if tokens.encode_text(t) != runtime._vocab.encode_text(t)] == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a\n\n b\t\tc  ",
        "2024 was 31415.9265",
        "naïve café — “quoted” …",
        "日本語のテキスト 🙂👩‍👩‍👧",
        "x<|im_end|>y<|im_start|>system",
        "<|endoftext|>",
        "</answer><think>",
        "\ud800 lone",
        "a" * 3000,
        "<repo_name>x<file_sep>",
    ],
)
def test_odd_texts(tokens, runtime, text):
    assert tokens.encode_text(text) == runtime._vocab.encode_text(text)
    assert tokens.encode_text(text, trusted=True) == runtime._vocab.encode_text(text, trusted=True)
    for n in (0, 1, 3, 7):
        assert tokens.prompts.truncate(text, n) == runtime.truncate(text, n)


@pytest.mark.parametrize("reasons", [False, True])
def test_whole_prompts(tokens, runtime, reasons):
    turns = (
        Turn("system", (Span("You write titles. <|im_end|>"),)),
        Turn("user", (Span("Write a title for: rye 2024"),)),
        Turn("assistant", (Span("<answer>", trusted=True), Span(" rye wins"), Span("</answer>", trusted=True))),
        Turn("user", (Span("Write a title for: bread\n"),)),
    )
    assert tokens.prompts.encode_turns(turns, reasons=reasons) == runtime.encode_turns(turns, reasons=reasons)
    assert tokens.prompts.count_turns(turns) == runtime.count_turns(turns)


def test_the_tags_are_the_beginning_of_what_stands_there(tokens):
    """`examples._Maker` marks so many tokens of the template's text as the model's own."""
    rest = "\n<|im_start|>user\n"
    for tag, behind in (("</answer><|im_end|>", rest), ("</think>", "\n<answer>")):
        alone = tokens.encode_text(tag, trusted=True)
        assert tokens.encode_text(tag + behind, trusted=True)[: len(alone)] == alone


def test_what_is_learned_is_what_forced_decoding_says(tokens, runtime):
    """The completion's tokens, fed to the runtime's phases, give back reasoning and answer, both ended."""
    from prlm_edge.backends.engine.phase import Phase

    ids, own = tokens.completion("rye wins: again", "About rye. 3 words.")
    text = tokens.tokenizer.decode(ids)
    assert text == "About rye. 3 words.</think>\n<answer>rye wins: again</answer><|im_end|>"
    assert tokens.tokenizer.decode([i for i, mine in zip(ids, own, strict=True) if not mine]) == "\n<answer>"
    phase = Phase(runtime._vocab, ("</think>", "<answer>"), 64, multiline=True)
    said, n = "", 0
    while not phase.ended:
        said += phase.push(ids[n])
        n += 1
    assert said == "About rye. 3 words." and phase.stopped
    n += own[n:].index(True)  # the tag is put there
    phase = Phase(runtime._vocab, ("</answer>",), 64, multiline=False)
    said = ""
    while not phase.ended:
        said += phase.push(ids[n])
        n += 1
    assert said == "rye wins: again" and phase.stopped
    assert ids[n:] == tokens.encode_text("<|im_end|>", trusted=True)
