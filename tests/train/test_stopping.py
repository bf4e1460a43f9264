"""When a run is stopped, when it is not, what is said, and which checkpoint is kept."""

import math
import re
from pathlib import Path

import pytest

from prlm_edge.train.run.stopping import ADVICE, StopLimits, Verdict, judge

LIMITS = StopLimits(window=4)


def steps(n, start=1, **figures):
    """`n` steps; a figure is a number or a function of the step."""
    return [
        {"kind": "step", "step": at} | {key: one(at) if callable(one) else one for key, one in figures.items()}
        for at in range(start, start + n)
    ]


def dev(*points):
    return [{"kind": "dev", "step": step, "figures": {"rouge1": value}} for step, value in points]


def in_order(*records):
    return sorted([one for some in records for one in some], key=lambda one: (one["step"], one["kind"] == "dev"))


def test_a_healthy_run_goes_on():
    figures = {"loss": 0.1, "reward": 1.0, "grad_norm": 0.5, "zero_variance": 0.3, "truncated": 0.1}
    assert judge(steps(50, **figures), LIMITS) == Verdict()
    assert judge([], LIMITS) == Verdict()
    assert judge(dev((0, 0.4)), LIMITS) == Verdict()
    assert judge(steps(50, loss=1.0)) == Verdict()  # a warm start has no rewards


@pytest.mark.parametrize(
    ("figures", "named"),
    [
        ({"loss": math.nan}, "loss is NaN"),
        ({"loss": math.inf}, "loss is infinite"),
        ({"loss": 1.0, "grad_norm": math.nan}, "grad_norm is NaN"),
        ({"loss": 1.0, "reward": math.nan}, "reward is NaN"),
        ({"loss": 1.0, "reward": None}, "reward is NaN"),
        ({"loss": 1.0, "terms": {"accuracy": 1.0, "style": -math.inf}}, "reward term style is infinite"),
        ({"loss": 1.0, "non_finite": 0.125}, "12% of the rollouts have a reward that is no number"),
    ],
)
def test_what_is_no_number_stops_at_once(figures, named):
    verdict = judge(steps(1, start=7, **figures))
    assert verdict == Verdict(True, f"step 7: {named}", ADVICE["non_finite"], "non_finite")
    assert "grpo.lr" in verdict.advice


def test_groups_without_variance_stop_it_once_the_window_is_full():
    assert not judge(steps(3, zero_variance=1.0), LIMITS).stop
    verdict = judge(steps(4, zero_variance=1.0), LIMITS)
    assert verdict.rule == "zero_variance"
    assert verdict.reason == "step 4: 100% of the groups of the last 4 logged steps earn one reward throughout"
    assert "grpo.group_size" in verdict.advice


def test_the_window_forgets_and_its_mean_counts():
    assert not judge(steps(20, zero_variance=1.0) + steps(2, 21, zero_variance=0.5), LIMITS).stop
    assert not judge(steps(4, zero_variance=0.9), LIMITS).stop  # more than 0.9, not as much
    assert judge(steps(4, zero_variance=lambda at: 0.85 if at == 2 else 0.95), LIMITS).stop
    assert not judge(steps(4, zero_variance=lambda at: None if at == 2 else 1.0), LIMITS).stop


def test_truncation_stops_it():
    assert not judge(steps(4, truncated=0.5), LIMITS).stop
    verdict = judge(steps(4, truncated=0.51), LIMITS)
    assert (verdict.rule, verdict.stop) == ("truncated", True)
    assert "51% of the completions" in verdict.reason
    assert "grpo.reasoning_tokens" in verdict.advice


def test_a_reward_that_is_gamed_stops_it():
    records = in_order(steps(30, reward=lambda at: at / 10), dev((0, 0.30), (10, 0.41), (20, 0.39), (30, 0.37)))
    verdict = judge(records, LIMITS)
    # of the last four rewards before step 10 and of the run: 0.85 and 2.85
    assert verdict.rule == "hacking"
    assert verdict.reason == (
        "step 30: the reward rose by 2.000 since step 10 while dev rouge1 fell from 0.410 to 0.370"
    )
    assert "grpo.beta" in verdict.advice


@pytest.mark.parametrize(
    ("why", "reward", "points"),
    [
        ("one low dev point is chance", lambda at: at, [(0, 0.3), (20, 0.41), (30, 0.2)]),
        ("dev came back", lambda at: at, [(10, 0.41), (20, 0.2), (30, 0.405)]),
        ("dev fell by nothing worth a word", lambda at: at, [(10, 0.410), (20, 0.405), (30, 0.402)]),
        ("the reward fell with it", lambda at: -at, [(10, 0.41), (20, 0.39), (30, 0.37)]),
        ("the reward is as it was", lambda at: 1.0, [(10, 0.41), (20, 0.39), (30, 0.37)]),
        ("the reward wavers", lambda at: at % 2 + at / 500, [(10, 0.41), (20, 0.39), (30, 0.37)]),
        ("dev rises", lambda at: at, [(10, 0.41), (20, 0.42), (30, 0.43)]),
        ("nobody measured dev", lambda at: at, []),
    ],
)
def test_no_hacking(why, reward, points):
    assert judge(in_order(steps(30, reward=reward), dev(*points)), LIMITS) == Verdict(), why


def test_hacking_from_the_first_step_on():
    records = in_order(steps(30, reward=lambda at: at / 10), dev((0, 0.41), (15, 0.39), (30, 0.37)))
    assert judge(records, LIMITS).rule == "hacking"
    too_early = in_order(steps(2, reward=lambda at: at / 10), dev((0, 0.41), (1, 0.39), (2, 0.37)))
    assert not judge(too_early, LIMITS).stop


def test_the_dev_figure_can_be_chosen_and_others_are_not_asked():
    records = in_order(steps(30, reward=lambda at: at / 10), dev((10, 0.41), (20, 0.39), (30, 0.37)))
    assert not judge(records, StopLimits(window=4, dev_figure="style_match")).stop
    assert not judge(records, StopLimits(window=4, dev_points=3)).stop


def test_the_worst_comes_first():
    records = steps(4, zero_variance=1.0, truncated=1.0)
    assert judge(records, LIMITS).rule == "zero_variance"
    assert judge(records + steps(1, 5, loss=math.nan), LIMITS).rule == "non_finite"


def test_advice_names_knobs_that_exist():
    from prlm_edge.train.config import Recipe

    for rule, advice in ADVICE.items():
        knobs = re.findall(r"\b([a-z]+)\.([a-z_]+)", advice)
        assert knobs, rule
        for section, key in knobs:
            assert key in Recipe.model_fields[section].annotation.model_fields, (rule, section, key)


def test_limits_are_checked():
    for wrong in ({"window": 0}, {"dev_points": 0}, {"dev_drop": -1.0}):
        with pytest.raises(ValueError, match="at least 1"):
            StopLimits(**wrong)


# the callback, in a real Trainer


@pytest.fixture
def trainer(tmp_path):
    """A Trainer of one weight: target 3, from 0; `spoil` is the step whose loss is NaN."""
    torch = pytest.importorskip("torch")
    from transformers import PrinterCallback, Trainer, TrainingArguments

    from prlm_edge.train.run.log import RunLog
    from prlm_edge.train.run.stop_callback import StopForCause
    from prlm_edge.train.run.watch import RunLogCallback

    class Line(torch.nn.Module):
        spoil = -1

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            loss = ((self.weight - 3) ** 2 * x).mean()
            return {"loss": loss * math.nan if self.calls == self.spoil else loss}

    def make(limits=LIMITS, *callbacks, **options):
        args = TrainingArguments(
            output_dir=str(tmp_path / "checkpoints"),
            max_steps=12,
            per_device_train_batch_size=1,
            logging_steps=1,
            save_steps=2,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            **options,
        )
        log = RunLog(tmp_path)
        stop = StopForCause(log, limits)
        data = [{"x": torch.ones(1)} for _ in range(100)]
        trainer = Trainer(Line(), args, train_dataset=data, callbacks=[RunLogCallback(log), *callbacks, stop])
        trainer.remove_callback(PrinterCallback)
        return trainer, log, stop

    return make


def saved(trainer):
    return sorted(int(path.name[11:]) for path in Path(trainer.args.output_dir).glob("checkpoint-*"))


def test_nan_stops_a_real_run_and_is_never_saved(trainer):
    """Transformers hides NaN by default; the weights are spoilt once it is seen."""
    run, log, stop = trainer()
    run.model.spoil = 6
    run.train()
    assert run.state.global_step == 6
    assert stop.verdict.rule == "non_finite"
    assert saved(run) == [2, 4]
    assert stop.best.name == "checkpoint-4"
    assert log.records[-1]["kind"] == "stop"
    assert log.records[-1]["reason"] == "step 6: loss is NaN"


def test_the_best_dev_point_is_kept_whatever_the_cap(trainer):
    from transformers import TrainerCallback

    class Dev(TrainerCallback):
        log = None

        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step % 2 == 0:  # worse and worse after step 4
                self.log.dev(state.global_step, {"rouge1": 0.5 - 0.01 * abs(state.global_step - 4)})

    watch = Dev()
    run, watch.log, stop = trainer(LIMITS, watch, save_total_limit=2)
    run.train()
    assert not stop.verdict.stop  # there is no reward that rises
    assert stop.best.name == "checkpoint-4"
    assert saved(run) == [4, 12]


def test_without_dev_points_the_newest_is_the_best(trainer):
    run, _, stop = trainer(save_total_limit=2)
    run.train()
    assert (saved(run), stop.best.name) == ([10, 12], "checkpoint-12")


def test_hacking_stops_a_run_that_can_still_be_saved(trainer):
    from transformers import TrainerCallback

    class Gamed(TrainerCallback):
        log = None

        def on_log(self, args, state, control, logs=None, **kwargs):
            self.log.records[-1]["reward"] = float(state.global_step)
            self.log.dev(state.global_step, {"rouge1": 0.5 - 0.02 * state.global_step})

    watch = Gamed()
    run, watch.log, stop = trainer(LIMITS, watch)
    run.train()
    assert stop.verdict.rule == "hacking"
    assert run.state.global_step == 4  # the first dev point is the best; two rewards on either side
    assert saved(run) == [2, 4]
    assert stop.best.name == "checkpoint-2"
