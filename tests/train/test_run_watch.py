"""What a Trainer logs becomes the run's log; in a real GRPO run, a resumed log is a straight run's."""

import io
import math
import types

import numpy as np
import pytest
from tiny import make_llama

from prlm_edge.style import style_of
from prlm_edge.train.grpo.terms import Ask, Rollout, make_terms
from prlm_edge.train.grpo.to_trl import as_trl_reward_funcs, splitter
from prlm_edge.train.run.log import CLOCK, RunLog, read_samples

pytest.importorskip("transformers")
from prlm_edge.train.run.live import PlainLines
from prlm_edge.train.run.watch import RunLogCallback, figures_of, memory_mb

ASK = Ask(
    "the reader", "mend the reader", ("mend the index", "mend the parser"), 2, style_of(["mend it"] * 3), "commit"
)


def test_figures_get_our_names_and_none_is_lost():
    logs = {
        "loss": 0.5,
        "learning_rate": 1e-5,
        "reward": None,
        "rewards/accuracy/mean": 1.5,
        "rewards/accuracy/std": 0.2,
        "completions/clipped_ratio": 0.75,
        "truncated": 0.25,
        "frac_reward_zero_std": 0.0,
        "completions/mean_length": 20,
        "clip_ratio/region_mean": 0.01,
        "clip_ratio/low_mean": 0.02,
        "epoch": 0.5,
        "step_time": 9.0,
    }
    found = figures_of(logs)
    assert math.isnan(found.pop("reward"))
    assert found == {
        "loss": 0.5,
        "lr": 1e-5,
        "terms": {"accuracy": 1.5},
        "terms_std": {"accuracy": 0.2},
        "truncated": 0.25,
        "zero_variance": 0.0,
        "clipped": 0.01,
        "lengths": {"mean": 20.0},
        "other": {"clip_ratio/low_mean": 0.02},
    }


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def state(at, n_steps=10, **fields):
    return types.SimpleNamespace(global_step=at, max_steps=n_steps, is_world_process_zero=True, **fields)


def test_pace_and_time_left_go_on_after_a_break(tmp_path):
    clock, log = Clock(), RunLog(tmp_path)
    callback = RunLogCallback(log, clock=clock)
    callback.on_train_begin(None, state(0), None)
    for at in (1, 2):
        clock.now += 5
        callback.on_log(None, state(at), None, {"loss": 1.0, "num_tokens": 100 * at})
    assert [(one["wall_s"], one["step_s"], one["eta_s"]) for one in log.records] == [(5, 5, 45), (10, 5, 40)]
    assert [one["tokens_per_s"] for one in log.records] == [20, 20]
    clock.now = 9_000
    log = RunLog(tmp_path)
    callback = RunLogCallback(log, clock=clock)
    callback.on_train_begin(None, state(2), None)
    clock.now += 2
    callback.on_log(None, state(3), None, {"loss": 1.0, "num_tokens": 500})
    last = log.records[-1]
    assert (last["wall_s"], last["step_s"], last["eta_s"], last["tokens_per_s"]) == (12, 2, 14, 150)
    assert len(log.records) == 3


def test_dev_logs_become_dev_records_and_other_logs_none(tmp_path):
    log = RunLog(tmp_path)
    callback = RunLogCallback(log)
    callback.on_train_begin(None, state(0), None)
    callback.on_log(None, state(4), None, {"eval_rouge1": 0.4, "eval_runtime": 3.0, "epoch": 1})
    callback.on_log(None, state(9), None, {"train_runtime": 3.0, "train_loss": 1.0})
    assert log.records == [{"kind": "dev", "step": 4, "figures": {"rouge1": 0.4}}]


def test_memory_is_that_of_this_process():
    block = np.ones(30_000_000)  # 240 MB
    assert memory_mb()["memory_mb"] > block.nbytes / 1e6


# A real GRPO run


@pytest.fixture(scope="module")
def grpo(tmp_path_factory):
    """run(folder, n_steps, resume) -> records: a tiny model, two prompts, three terms."""
    pytest.importorskip("trl")
    from datasets import Dataset
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, PrinterCallback
    from trl import GRPOConfig, GRPOTrainer

    words = ["<pad>", "<eos>", "<think>", "</think>", "<answer>", "</answer>", "mend", "the", "reader", "index", "[1]"]
    backend = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.decoder = decoders.Metaspace(" ")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>")
    weights = {"accuracy": 1.0, "format": 0.5, "faithfulness": 0.0}
    asks = {"p": ASK, "q": ASK}

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    ids = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1}
    source = make_llama(tmp_path_factory.mktemp("tiny"), vocab_size=len(words), **sizes, **heads, **ids)

    def run(folder, n_steps, resume=None):
        log = RunLog(folder)
        watch = RunLogCallback(log, PlainLines(2, io.StringIO()), sample_every=2, n_samples=2)
        funcs = as_trl_reward_funcs(
            make_terms(weights),
            weights,
            asks,
            group_size=4,
            split=splitter("<think>"),
            count=lambda text: len(text.split()),
            stop_ids=(1,),
            seen=watch.see,
        )
        args = GRPOConfig(
            output_dir=str(folder / "checkpoints"),
            max_steps=n_steps,
            per_device_train_batch_size=8,
            num_generations=4,
            max_completion_length=12,
            learning_rate=0.01,
            lr_scheduler_type="constant",
            beta=0.04,
            multi_objective_aggregation="normalize_then_sum",
            reward_weights=[weights[func.__name__] for func in funcs],
            logging_steps=1,
            save_steps=2,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            bf16=False,
            model_init_kwargs={"dtype": "float32"},
        )
        rows = [{"prompt": "mend the <think>", "prompt_id": key} for key in ("p", "q")] * 8
        trainer = GRPOTrainer(
            model=str(source),
            reward_funcs=funcs,
            args=args,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            callbacks=[watch],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=resume and str(resume))
        return trainer, log

    return run


def steady(records):
    return [{key: value for key, value in one.items() if key not in CLOCK} for one in records]


def test_a_real_run_logs_everything_and_goes_on_as_if_it_had_not_ended(grpo, tmp_path):
    trainer, straight = grpo(tmp_path / "straight", 4)
    assert [one["step"] for one in straight.records] == [1, 2, 3, 4]
    for one in straight.records:
        wanted = {"loss", "grad_norm", "lr", "reward", "reward_std", "kl", "entropy", "zero_variance", "truncated"}
        assert wanted | {"clipped", "tokens", "lengths", "terms", "terms_std", "non_finite"} <= set(one)
        assert set(one["terms"]) == {"accuracy", "format", "faithfulness"}
        assert set(one["lengths"]) == {"mean", "min", "max", "reasoning", "answer"}
        assert one["non_finite"] == 0
        assert 0 <= one["zero_variance"] <= 1
        assert one["reward"] == pytest.approx(one["terms"]["accuracy"] + 0.5 * one["terms"]["format"], abs=1e-4)
        assert one["memory_mb"] > 100
        assert one["tokens_per_s"] > 0
    assert straight.records[-1]["eta_s"] == 0
    assert sum(one["terms_std"]["accuracy"] for one in straight.records) > 0  # the model does vary

    # what TRL made of the last batch's rewards is what `total` makes of them
    from prlm_edge.train.grpo.weigh import total

    terms = {name: list(values)[-8:] for name, values in trainer._logs["rewards"].items()}
    ours = total(terms, {"accuracy": 1.0, "format": 0.5, "faithfulness": 0.0}, 4)
    np.testing.assert_allclose(list(trainer._logs["advantages"])[-8:], ours, atol=1e-4)

    # killed behind step 3, with half a line written; the last checkpoint is that of step 2
    folder = tmp_path / "broken"
    grpo(folder, 3)
    for name in ("run.jsonl", "samples.jsonl"):
        with (folder / name).open("a") as stream:
            stream.write('{"kind":"step","st')
    _, resumed = grpo(folder, 4, folder / "checkpoints" / "checkpoint-2")
    assert steady(resumed.records) == steady(straight.records)
    assert steady(RunLog(folder).records) == steady(straight.records)
    samples = read_samples(resumed.samples_path)
    assert samples == read_samples(straight.samples_path)
    assert {one["step"] for one in samples} == {2, 4}
    assert samples[0]["target"] == "mend the reader"

    # and the same command from the beginning begins the log anew
    _, anew = grpo(folder, 1)
    assert steady(anew.records) == steady(straight.records)[:1]


def test_samples_are_the_first_of_each_prompt(tmp_path):
    log = RunLog(tmp_path)
    callback = RunLogCallback(log, sample_every=2, n_samples=2)
    callback.on_train_begin(None, state(0), None)
    rollouts = [Rollout(key, "r", f"{key}{n}", "stop", False, 1, 1) for key in "abc" for n in range(2)]
    for at in range(1, 5):
        callback.see(rollouts, [ASK] * 6, {"accuracy": np.arange(6.0)})
        callback.on_log(None, state(at), None, {"loss": 1.0})
    samples = read_samples(log.samples_path)
    assert [(one["step"], one["answer"], one["terms"]["accuracy"]) for one in samples] == [
        (2, "a0", 0), (2, "b0", 2), (4, "a0", 0), (4, "b0", 2)
    ]  # fmt: skip
