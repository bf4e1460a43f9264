"""The reward model from pairs to the device: a tiny BERT with the real tokenizer learns, resumes, is exported.

The real MiniLM is trained for a few steps in one test, marked slow.
"""

import json
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from safetensors.torch import load_file  # noqa: E402
from transformers import TrainerCallback  # noqa: E402

from prlm_edge.errors import ModelError, UsageError  # noqa: E402
from prlm_edge.evaluate.data import load  # noqa: E402
from prlm_edge.rerank import rank  # noqa: E402
from prlm_edge.rerank.reward.encoder import Encoder, habits_line, looks_line, nearness_line  # noqa: E402
from prlm_edge.rerank.reward.scorer import RewardScorer  # noqa: E402
from prlm_edge.style import style_of  # noqa: E402
from prlm_edge.train.config import RewardConfig  # noqa: E402
from prlm_edge.train.reward import base as reward_base  # noqa: E402
from prlm_edge.train.reward import evaluate as reward_eval  # noqa: E402
from prlm_edge.train.reward import to_onnx as reward_onnx  # noqa: E402
from prlm_edge.train.reward.batches import PadPairs, Tokenized, pad  # noqa: E402
from prlm_edge.train.reward.model import first_layers, load_trained, score, train_student, train_teacher  # noqa: E402
from prlm_edge.train.reward.pairs import make_pairs  # noqa: E402
from prlm_edge.types import Cancel, Candidate, Scoring  # noqa: E402

pytestmark = pytest.mark.embedder  # its tokenizer
SAMPLES = Path(__file__).parents[3] / "shared" / "data" / "sample"
TITLES = ["notes on bread", "notes on rye", "notes on the oven", "notes on yeast"]
CONTEXT = Scoring("Rye needs more water than wheat does.", "title", style_of(TITLES), past=tuple(TITLES))
CONFIG = RewardConfig(
    epochs=6, lr=3e-3, student_epochs=6, student_lr=3e-3, batch=8, max_length=128, n_layers_student=1, save_steps=5
)


@pytest.fixture(scope="session")
def trained(tiny_bert, tokenized, tmp_path_factory):
    """Folders of a teacher and its student."""
    root = tmp_path_factory.mktemp("trained")
    teacher = train_teacher(root / "teacher", tiny_bert, tokenized, CONFIG)
    return teacher, train_student(root / "student", teacher, tokenized, CONFIG)


@pytest.fixture(scope="session")
def exported(trained, pairs, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "reward"
    options = {"max_length": 128, "min_agreement": 0.9, "about": {"note": "tiny"}}
    parity = reward_onnx.export(trained[1], out, pairs, **options)
    return out, parity


def text_of(encoder, encoded):
    return encoder._tokenizer.decode(encoded.ids, skip_special_tokens=False)


# --- how a pair becomes token ids


@pytest.mark.parametrize(
    "copy", ["Notes on rye", "NOTES ON RYE", "Notes On Rye", "notes on rye.", "notes on rye!", "docs: notes on rye"]
)
def test_style_that_the_tokenizer_does_not_see_is_said(encoder, copy):
    """MiniLM's tokenizer makes the same ids of "Notes on Rye" and "notes on rye"."""
    for context in (CONTEXT, replace(CONTEXT, style=style_of([]))):
        assert encoder.encode(context, copy).ids != encoder.encode(context, "notes on rye").ids


def test_the_tokenizer_alone_would_not_see_it(encoder):
    assert encoder._ids("Notes On RYE", 1.0) == encoder._ids("notes on rye", 1.0)


def test_a_pair_reads_as_documented(encoder):
    encoded = encoder.encode(CONTEXT, "Water for rye")
    habits, past, answer, looks, request, end = text_of(encoder, encoded).split(" [SEP]")
    assert habits.startswith("[CLS] lower case")
    assert past.split(" ; ")[0].strip() == "notes on rye"  # shares most with the request
    assert sorted(part.strip() for part in past.split(";")) == sorted(TITLES)
    assert answer.strip() == "water for rye"
    assert "keeps" in looks and "breaks" in looks and "lower case" in looks
    assert request.strip() == "rye needs more water than wheat does."
    assert end == ""
    side = [i for i, token in enumerate(encoded.ids) if token == encoder._sep][1] + 1
    assert encoded.types == [0] * side + [1] * (len(encoded.ids) - side)


def test_the_order_of_the_prompt_does_not_matter(encoder):
    turned = replace(CONTEXT, past=tuple(reversed(CONTEXT.past)))
    assert encoder.encode(turned, "x") == encoder.encode(CONTEXT, "x")


@pytest.mark.parametrize("length", [128, 160, 256])
def test_long_texts_are_cut_and_the_answer_stays(minilm_path, length):
    encoder = Encoder(minilm_path / "tokenizer.json", length)
    long = "the rye and the water " * 400
    context = Scoring(long, "title", style_of([long, long, long]), past=(long, long + "x", "short"))
    encoded = encoder.encode(context, "unmistakable " + long)
    assert len(encoded.ids) == len(encoded.types) <= length
    assert "[SEP] unmistakable the rye" in text_of(encoder, encoded)
    assert text_of(encoder, encoded).count("[SEP]") == 5
    past = text_of(encoder, encoded).split("[SEP]")[1]
    assert past.split()  # a title is shortened rather than left out


def test_empty_parts(encoder):
    encoded = encoder.encode(Scoring("", "title", style_of([])), "")
    assert text_of(encoder, encoded).startswith(
        "[CLS] [SEP] [SEP] [SEP] past 0, at best 0, subjects 0, request 0. 0 words"
    )


def test_control_tokens_in_a_users_text_are_text(encoder):
    encoded = encoder.encode(replace(CONTEXT, query="a [SEP] b [CLS]"), "[SEP] [SEP] x")
    assert encoded.ids.count(encoder._sep) == 5
    assert encoded.ids.count(encoder._cls) == 1


def test_lone_surrogates_are_no_trouble(encoder):
    assert encoder.encode(replace(CONTEXT, query="\ud800"), "a\udfff").ids


def test_looks_say_only_what_is_true():
    style = style_of(TITLES)
    assert looks_line("notes on water", style) == "3 words, lower case, no colon, no final period. keeps 10 of 10"
    broken = looks_line("[net] Fix: the 3 Ovens?", style)
    assert "tag '[net]'" in broken
    assert "ends with a question mark" in broken
    assert "no final period." not in broken.partition(" keeps ")[0]  # implied
    assert "breaks" in broken
    assert "keeps" not in looks_line("abc", style_of([]))
    assert habits_line(style).startswith("lower case") and habits_line(style_of([])) == ""


def test_nearness_is_what_can_be_counted_by_hand():
    past = ("notes on rye bread", "a drain")
    context = Scoring("What I wrote about rye, on a walk", "title", style_of(past), past=past)
    # ROUGE-1 6/7 and 0; "notes" and "rye" are subjects, both known; "on" and "rye" are in the request
    assert nearness_line("Notes on rye", context) == "past 7, at best 9, subjects 10, request 7."
    assert nearness_line("Notes on rye", replace(context, past=())) == "past 0, at best 0, subjects 0, request 7."
    assert nearness_line("", context) == "past 0, at best 0, subjects 0, request 0."


def test_a_tokenizer_that_is_none_is_refused(tmp_path, minilm_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError):
        Encoder(tmp_path / "tokenizer.json")
    with pytest.raises(ModelError):
        Encoder(minilm_path / "tokenizer.json", 40)


# --- training


def test_batches_hold_chosen_texts_first_and_their_types(tokenized):
    data = Tokenized(tokenized.chosen, tokenized.rejected, [0.5] * len(tokenized.chosen)).dataset()
    batch = PadPairs(0)([data[i] for i in range(3)])
    assert batch["input_ids"].shape == batch["attention_mask"].shape == batch["token_type_ids"].shape
    assert len(batch["input_ids"]) == 6
    for row, one in enumerate([*tokenized.chosen[:3], *tokenized.rejected[:3]]):
        n = len(one.ids)
        assert batch["input_ids"][row, :n].tolist() == one.ids
        assert batch["token_type_ids"][row, :n].tolist() == one.types
        assert batch["attention_mask"][row].tolist() == [1] * n + [0] * (batch["input_ids"].shape[1] - n)
    assert batch["teacher_margin"].tolist() == [0.5] * 3


def test_token_types_reach_the_model(tiny_bert, tokenized, tmp_path):
    """TRL's own collator would leave them out."""
    model = load_trained(tiny_bert)
    seen = pad(tokenized.chosen[:2], 0)
    without = {**seen, "token_type_ids": torch.zeros_like(seen["token_type_ids"])}
    assert not torch.allclose(model(**seen).logits, model(**without).logits)

    class Spy(TrainerCallback):
        def on_train_begin(self, args, state, control, model=None, **kwargs):
            model.register_forward_pre_hook(
                lambda _, args, given: types.append(given["token_type_ids"]), with_kwargs=True
            )

    types = []
    train_teacher(
        Path(str(tiny_bert) + "-spied"),
        tiny_bert,
        tokenized,
        CONFIG.model_copy(update={"max_steps": 1}),
        callbacks=[Spy()],
    )
    assert types and types[0].max() == 1


def test_padding_does_not_change_a_score(tiny_bert, tokenized):
    model = load_trained(tiny_bert)
    together = score(model, tokenized.chosen)
    alone = np.concatenate([score(model, [one]) for one in tokenized.chosen])
    assert np.allclose(together, alone, atol=1e-5)


def test_teacher_and_student_learn_the_order(trained, tokenized):
    for folder in trained:
        model = load_trained(folder)
        margins = score(model, tokenized.chosen) - score(model, tokenized.rejected)
        assert (margins > 0).mean() > 0.85, folder
    assert load_trained(trained[1]).config.num_hidden_layers == 1


def test_the_student_learns_the_teachers_margins(trained, tiny_bert, tokenized):
    def distance(model):
        return float(np.mean((score(model, tokenized.chosen) - score(model, tokenized.rejected) - wanted) ** 2))

    teacher = load_trained(trained[0])
    wanted = score(teacher, tokenized.chosen) - score(teacher, tokenized.rejected)
    log = json.loads((trained[1].parent / "log.json").read_text())
    distances = [entry["distance"] for entry in log if "distance" in entry]
    assert distances[-1] < distances[0]
    assert distance(load_trained(trained[1])) < distance(first_layers(load_trained(trained[0]), 1))


def test_a_cancelled_run_goes_on_to_the_same_weights(tmp_path, tiny_bert, tokenized):
    config = CONFIG.model_copy(update={"max_steps": 7, "save_steps": 2})
    straight = train_teacher(tmp_path / "straight", tiny_bert, tokenized, config)
    cancel = Cancel()
    steps = []

    def progress(done, total):
        steps.append((done, total))
        if done == 5:  # in the second epoch, whose order must not depend on what the first drew
            cancel.cancel()

    path = tmp_path / "again"
    assert train_teacher(path, tiny_bert, tokenized, config, cancel=cancel, progress=progress) is None
    assert steps[-1] == (5, 7)
    (path / "checkpoints" / "checkpoint-9").mkdir()  # torn: no list of its files
    again = train_teacher(path, tiny_bert, tokenized, config, progress=progress)
    assert steps[5] == (6, 7)
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (straight, again))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert len(list((path / "checkpoints").glob("checkpoint-*"))) <= config.keep
    assert train_teacher(path, tiny_bert, tokenized, config, progress=lambda *_: pytest.fail("it has ended")) == again


def test_a_run_of_other_pairs_or_settings_is_refused(trained, tiny_bert, tokenized):
    folder = trained[0].parent
    with pytest.raises(UsageError, match="config"):
        train_teacher(folder, tiny_bert, tokenized, CONFIG.model_copy(update={"lr": 1e-3}))
    with pytest.raises(UsageError, match="pairs"):
        train_teacher(folder, tiny_bert, Tokenized(tokenized.rejected, tokenized.chosen), CONFIG)
    with pytest.raises(UsageError, match="weights"):
        train_teacher(folder, trained[0], tokenized, CONFIG)


def test_bad_input_is_refused_early(encoder, trained):
    with pytest.raises(UsageError, match="no pairs"):
        Tokenized.of([], encoder)
    with pytest.raises(UsageError, match="3 layers"):
        first_layers(load_trained(trained[0]), 3)


# --- export and the device


def test_the_int8_model_agrees_with_the_trained_one(exported):
    out, parity = exported
    assert parity.correlation > 0.98
    assert parity.worst < 2 * parity.largest < parity.spread
    assert parity.agreement >= 0.9  # 32 pairs: three that are as good as equal
    card = json.loads((out / "reward.json").read_text())
    assert card["note"] == "tiny" and card["layers"] == 1 and card["parity"]["n_pairs"] == parity.n_pairs
    assert sorted(path.name for path in out.iterdir()) == ["model.onnx", "reward.json", "tokenizer.json"]
    assert (out / "model.onnx").stat().st_size < 2_000_000  # 4 MB in float32


def test_the_device_ranks_as_the_trained_model_does(exported, trained, pairs, encoder):
    scorer, model = RewardScorer(exported[0]), load_trained(trained[1])
    for pair in pairs[:6]:
        texts = [pair.chosen, pair.rejected, pair.chosen.upper(), "...", "untitled"]
        answers = [Candidate(text) for text in dict.fromkeys(texts)]
        ours = score(model, [encoder.encode(pair.context, one.answer) for one in answers])
        theirs = rank(answers, scorer, pair.context)
        best = [answers[i].answer for i in np.argsort(-ours, kind="stable")]
        close = np.abs(np.diff(np.sort(ours))).min() < 4 * exported[1].largest
        assert close or [one.answer for one in theirs] == best


def test_a_score_depends_on_its_own_text_alone(exported):
    scorer = RewardScorer(exported[0], threads=2)
    answers = [Candidate(text) for text in ("notes on water", "x", "a much longer answer than the others are", "x")]
    together = scorer.score(answers, CONTEXT)
    assert together == [scorer.score([one], CONTEXT)[0] for one in answers]
    assert together[1] == together[3]
    assert all(map(math.isfinite, together))
    assert scorer.name == "reward" and not scorer.needs_logprobs


def test_an_export_that_is_not_the_model_is_refused(trained, pairs, tmp_path):
    with pytest.raises(ModelError, match="int8"):
        reward_onnx.export(trained[1], tmp_path / "out", pairs[:8], max_length=128, min_correlation=1.1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "reward.json"])
def test_damaged_files_are_refused(exported, tmp_path, home, name):
    folder = tmp_path / "copy"
    shutil.copytree(exported[0], folder)
    (folder / name).write_bytes(b"{}")
    with pytest.raises(ModelError):
        RewardScorer(folder)
    (folder / name).unlink()
    with pytest.raises(ModelError):
        RewardScorer(folder)


def test_another_encoding_is_refused(exported, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(exported[0], folder)
    card = json.loads((folder / "reward.json").read_text())
    (folder / "reward.json").write_text(json.dumps({**card, "encoding": 99}))
    with pytest.raises(ModelError, match="encoding 99"):
        RewardScorer(folder)


def test_the_device_needs_no_torch(exported):
    """In a process of its own, as on the device."""
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path\n"
        "from prlm_edge.rerank.reward.scorer import RewardScorer\n"
        "assert not {'numpy', 'onnxruntime', 'tokenizers'} & set(sys.modules)\n"
        "from prlm_edge.types import Candidate, Scoring; from prlm_edge.style.counts import style_of\n"
        "s = RewardScorer(Path(sys.argv[1])).score([Candidate('a')], Scoring('q', 'title', style_of([])))\n"
        "assert len(s) == 1 and not {'torch', 'transformers', 'trl'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(exported[0])], check=True)


# --- figures


def test_figures_of_a_perfect_a_blind_and_a_wrong_model(pairs):
    one, zero = np.ones(len(pairs)), np.zeros(len(pairs))
    perfect, blind, wrong = (
        reward_eval.evaluate(pairs, *scores) for scores in ((one, zero), (zero, zero), (zero, one))
    )
    assert perfect["accuracy"]["all"]["mean"] == perfect["swap"]["all"]["mean"] == 1
    assert blind["swap"]["swap"]["mean"] == blind["accuracy"]["style"]["mean"] == 0.5
    assert wrong["accuracy"]["degenerate"]["mean"] == 0
    assert perfect["accuracy"]["swap"]["n_rows"] == 8
    assert perfect["by_task"]["commit"].keys() == {"style", "degenerate", "neighbour", "swap"}
    json.dumps(perfect)


def test_a_model_of_one_fact_is_right_as_often_as_that_fact_alone(pairs):
    for name, fact in (("length", reward_eval.usual_length), ("rouge", reward_eval.nearness)):
        chosen = [fact(pair.context, pair.chosen) for pair in pairs]
        rejected = [fact(pair.other, pair.rejected) for pair in pairs]
        found = reward_eval.evaluate(pairs, chosen, rejected)
        assert found["alone"][name]["all"] == pytest.approx(np.mean(reward_eval.wins(np.subtract(chosen, rejected))))


def test_style_alone_knows_broken_copies(pairs):
    assert reward_eval.evaluate(pairs, np.ones(len(pairs)), np.zeros(len(pairs)))["alone"]["style"]["style"] == 1


def test_calibration_of_margins():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.5, 1, 20000)
    right = rng.uniform(size=len(p)) < p
    margins = np.log(p / (1 - p)) * np.where(right, 1, -1)
    assert reward_eval.calibration(margins)["ece"] < 0.02
    assert reward_eval.calibration(10 * margins)["ece"] > 0.15
    assert reward_eval.calibration([0.0, 0.0])["ece"] == 0
    bins = reward_eval.calibration([1e6, -1e6])["bins"]
    assert bins == [{"confidence": 1.0, "accuracy": 0.5, "n": 2}]


@pytest.mark.parametrize("scores", [([], []), ([math.nan], [0]), ([1, 2], [1])])
def test_figures_of_nothing_are_refused(pairs, scores):
    with pytest.raises(UsageError):
        reward_eval.evaluate(pairs[: len(scores[1]) and 1], *scores)


# --- the real thing


@pytest.mark.slow
def test_a_few_steps_of_the_real_model(minilm_path, tmp_path):
    """MiniLM on real rows: the order of these pairs is learned, and the device scores like the trained student."""
    if not (reward_base.BASE.folder / "manifest.json").exists():
        assert not os.environ.get("CI"), "CI has to have the reward model's base: `make models`"
        pytest.skip("the reward model's base is not fetched: `make models` fetches it")
    if not SAMPLES.exists():
        pytest.skip("needs the sample data beside the repository")
    of = load(SAMPLES / "commit_subject.sample20.jsonl", limit=8).rows
    found = make_pairs(of, RewardConfig(kinds=("style", "degenerate", "swap"))).pairs
    encoder = Encoder(minilm_path / "tokenizer.json", 128)
    data = Tokenized.of(found, encoder)
    rates = {"lr": 3e-4, "student_lr": 1e-3, "warmup": 0.0}
    config = RewardConfig(max_steps=24, batch=4, max_length=128, n_layers_student=1, **rates)
    teacher = train_teacher(tmp_path / "teacher", reward_base.BASE.folder, data, config)
    student = train_student(tmp_path / "student", teacher, data, config)
    parity = reward_onnx.export(
        student, tmp_path / "out", found, max_length=128, min_correlation=0.9, min_agreement=0.8
    )
    assert parity.correlation > 0.95
    assert (tmp_path / "out" / "model.onnx").stat().st_size < 16_000_000
    model = load_trained(teacher)
    assert (score(model, data.chosen) > score(model, data.rejected)).mean() > 0.8
