"""The disk fills up while something is trained: one line is said, and with space again it ends as the straight run.

Real file systems of some megabytes, since PyTorch and safetensors write past Python's own calls.
"""

import contextlib
import errno

import pytest
from helpers import filled, mounted

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

from prlm_edge.errors import PrlmError  # noqa: E402
from prlm_edge.storage import writing  # noqa: E402
from prlm_edge.train import base, config, rejection, warmstart  # noqa: E402
from prlm_edge.train.config import DataFile  # noqa: E402
from prlm_edge.train.data import examples as data  # noqa: E402
from prlm_edge.train.data import prompts  # noqa: E402
from prlm_edge.train.reward.model import train_student, train_teacher  # noqa: E402
from prlm_edge.train.run import folder as run_folder  # noqa: E402
from prlm_edge.train.types import Rollout  # noqa: E402
from prlm_edge.types import Cancel, Candidate  # noqa: E402

pytestmark = [pytest.mark.model, pytest.mark.embedder]
KB = 1024


class FillingUp:
    """A progress function: the disk is full from step `at` on, but for `spare` bytes."""

    def __init__(self, stack, disk, at, spare=0):
        self._stack, self._disk, self._at, self._spare = stack, disk, at, spare

    def __call__(self, done, total):
        if done == self._at:
            self._stack.enter_context(filled(self._disk, self._spare))


def fails(train, disk, at, spare):
    """`train(progress)` stops with one line about the disk, which then has space again."""
    with contextlib.ExitStack() as stack, pytest.raises(PrlmError, match="No space left on device") as caught:
        train(FillingUp(stack, disk, at, spare))
    assert caught.value.hint.startswith("free some space")


def same(ours, theirs):
    ours, theirs = load_file(ours), load_file(theirs)
    return ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in ours)


# --- the warm start


@pytest.fixture(scope="module")
def recipe(tiny_folder):
    sets = ["data.k=2", "base.precision=fp32", "lora.r=4", "warmstart.lr=0.02", "warmstart.save_steps=2"]
    sets += ["warmstart.batch=4", "warmstart.max_steps=5", "warmstart.epochs=2", "warmstart.eval_steps=0"]
    return config.load("edge-cpu", sets, {"base.model": str(tiny_folder)})


@pytest.fixture
def warm(recipe, tokens, rows_file):
    """warm(path, progress) -> the file of the adapter."""
    found = data.read([DataFile(path=str(rows_file))], tokens, recipe.data, seed=0, loss_on="all", limit=None)

    def run(path, progress=lambda *_: None):
        progress(0, 0)
        folder = run_folder.TrainFolder.open(path, "warmstart", recipe, {})
        assert warmstart.train(folder, recipe, found.examples, (), progress=progress)
        return folder.adapter / "adapter_model.safetensors"

    return run


@pytest.fixture(scope="module")
def straights(tmp_path_factory):
    """straight(name, train) -> what a run ends in that nothing happens to; each is made once."""
    made = {}

    def straight(name, train):
        if name not in made:
            made[name] = train(tmp_path_factory.mktemp("straight") / "run")
        return made[name]

    return straight


@pytest.mark.parametrize(
    ("at", "spare"),
    [(0, 0), (1, 0), (2, 0), (4, 24 * KB)],
    ids=["header", "log", "first checkpoint", "adapter of the second"],
)
def test_the_warm_start(at, spare, warm, straights, tmp_path):
    with mounted(tmp_path / "disk", "size=4m") as disk:
        fails(lambda progress: warm(disk / "run", progress), disk, at, spare)
        assert not (disk / "run" / "adapter").exists()
        assert same(warm(disk / "run"), straights("warm", warm))


def test_a_disk_too_small_for_checkpoints_says_so_and_stays_of_use(warm, tmp_path):
    with mounted(tmp_path / "disk", "size=64k") as disk:
        for _ in range(2):
            with pytest.raises(PrlmError, match="No space left on device"):
                warm(disk / "run")


def test_the_adapter_is_kept_whole_or_not_at_all(tmp_path):
    source = tmp_path / "checkpoint"
    source.mkdir()
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (source / name).write_bytes(b"0" * 40 * KB)
    with mounted(tmp_path / "disk", "size=1m") as disk:
        folder = run_folder.TrainFolder(disk)
        with filled(disk, 60 * KB), pytest.raises(PrlmError, match="No space left on device") as caught:
            folder.keep_adapter(source)
        assert caught.value.hint.startswith("free some space") and not folder.adapter.exists()
        folder.keep_adapter(source)
        assert {path.stat().st_size for path in folder.adapter.iterdir()} == {40 * KB}


# --- rejection sampling's draws


def test_draws(recipe, tiny_folder, rows_file, tmp_path):
    given = {"data": recipe.data.model_copy(update={"files": (str(rows_file),), "reasoning": True})}
    tokens = base.load_tokens(tiny_folder, 1024)
    asked, _ = prompts.read([DataFile(path=str(rows_file))], recipe.model_copy(update=given), tokens, limit=None)

    def draw(some, salt):
        said = (Candidate("an answer", f"drawn {place} of {salt}. " * 40) for place in range(len(some)))
        return [rejection.judged(Rollout(one, each)) for one, each in zip(some, said, strict=True)]

    def sample(path, progress=lambda *_: None):
        assert rejection.sample(path, asked, draw, 4, cancel=Cancel(), progress=progress)
        return path.read_bytes()

    straight = sample(tmp_path / "draws.jsonl")
    with mounted(tmp_path / "disk", "size=1m") as disk:
        fails(lambda progress: sample(disk / "draws.jsonl", progress), disk, 4, 2 * KB)
        kept = (disk / "draws.jsonl").read_bytes()
        assert kept == straight[: len(kept)] and kept.count(b"\n") == 16
        assert sample(disk / "draws.jsonl") == straight


# --- the reward model


REWARD = config.RewardConfig(max_steps=4, save_steps=2, batch=8, max_length=128, n_layers_student=1, warmup=0.0)
MB = KB * KB


@pytest.mark.parametrize(
    ("stage", "at", "spare"),
    [(train_teacher, 2, 6 * MB), (train_teacher, 4, 14 * MB), (train_student, 0, 0), (train_student, 4, 0)],
    ids=["optimizer", "model", "margins", "last checkpoint"],
)
def test_the_reward_model(stage, at, spare, tiny_bert, tokenized, straights, tmp_path):
    def train(path, progress=lambda *_: None):
        progress(0, 0)
        return stage(path, tiny_bert, tokenized, REWARD, progress=progress) / "model.safetensors"

    with mounted(tmp_path / "disk", "size=64m") as disk:
        fails(lambda progress: train(disk / "run", progress), disk, at, spare)
        assert not (disk / "run" / "model").exists()
        assert same(train(disk / "run"), straights(stage, train))


# --- errors that are told apart


OTHER = [ValueError("(os error 28)"), KeyError("x"), RuntimeError("[Errno 28] differ"), Exception("os error 28")]


@pytest.mark.parametrize("error", OTHER, ids=repr)
def test_other_errors_stay_what_they_are(error, tmp_path):
    with pytest.raises(type(error)), writing(tmp_path):
        raise error


def test_what_tokenizers_say_of_a_full_disk(tokens, tmp_path):
    backend = tokens.tokenizer.backend_tokenizer
    full = pytest.raises(PrlmError, match="No space left on device")
    with mounted(tmp_path / "disk", "size=64k") as disk, full, writing(disk):
        backend.save(str(disk / "tokenizer.json"))


def test_a_broken_disk_is_no_full_one(tmp_path):
    with pytest.raises(PrlmError, match="Input/output error") as caught, writing(tmp_path):
        raise OSError(errno.EIO, "Input/output error")
    assert "free some space" not in caught.value.hint
    with pytest.raises(PrlmError, match=r"Input/output error|No space"), writing(tmp_path):
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534")
