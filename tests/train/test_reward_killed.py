"""Teacher and student killed at any moment: the same command goes on and ends in the very weights of a straight run."""

import os
import pickle
import random
import signal
import subprocess
import sys
import time

import pytest
from helpers import running

pytest.importorskip("torch")

from safetensors.torch import load_file

from prlm_edge.train.config import RewardConfig
from prlm_edge.train.reward.model import train_student, train_teacher

pytestmark = [pytest.mark.embedder, pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="signals")]
CONFIG = RewardConfig(
    max_steps=12, save_steps=3, batch=8, max_length=128, n_layers_student=1, lr=3e-3, student_lr=3e-3, warmup=0.0
)
COMMAND = """
import pickle, sys
from pathlib import Path
from prlm_edge.train.config import RewardConfig
from prlm_edge.train.reward.model import train_student, train_teacher
out, bert, pairs, config = sys.argv[1:]
pairs, config = pickle.loads(Path(pairs).read_bytes()), RewardConfig.model_validate_json(config)
source = Path(bert)
for number, train in enumerate((train_teacher, train_student)):
    print(number, 0, flush=True)
    say = lambda done, total: print(number, done, flush=True)
    source = train(Path(out) / train.__name__, source, pairs, config, progress=say)
print("end", flush=True)
"""
#: Lines of the command after which it is killed: a step is done, the student's stage begins (its header, the teacher's
#: margins), the last step is done (the model is written). Starting the command takes ten times as long as its training.
MOMENTS = ("0 4", "1 0", "1 12")


def stages(out, bert, pairs):
    teacher = train_teacher(out / "train_teacher", bert, pairs, CONFIG)
    return teacher, train_student(out / "train_student", teacher, pairs, CONFIG)


def killed(command, moment, delay):
    """Run until a line says `moment` and `delay` seconds more; whether it was killed rather than through before."""
    with running(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.strip() == moment:
                time.sleep(delay)
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode in (-signal.SIGKILL, 0)
    return process.returncode != 0


def test_killed_at_any_moment_it_ends_as_the_straight_run_does(tmp_path, tiny_bert, tokenized):
    straight = stages(tmp_path / "straight", tiny_bert, tokenized)
    (tmp_path / "pairs").write_bytes(pickle.dumps(tokenized))
    out, delays = tmp_path / "killed", random.Random(0)
    command = [sys.executable, "-c", COMMAND, out, tiny_bert, tmp_path / "pairs", CONFIG.model_dump_json()]
    kills = [killed(list(map(str, command)), moment, delays.uniform(0, 0.02)) for moment in MOMENTS]
    assert sum(kills) >= 2
    again = stages(out, tiny_bert, tokenized)
    for ours, theirs in zip(again, straight, strict=True):
        ours, theirs = (load_file(folder / "model.safetensors") for folder in (ours, theirs))
        assert ours.keys() == theirs.keys()
        assert all(ours[name].equal(theirs[name]) for name in ours)
    left = [path.name for path in out.rglob(".*")]
    assert not [name for name in left if name == ".model.new"]
