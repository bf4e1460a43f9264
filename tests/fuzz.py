"""Fuzzes the command line: no input of a user reaches exit 70 ("this is a bug"), a traceback, a crash or a hang.

    python tests/fuzz.py --minutes 10            # `make fuzz MINUTES=10`
    python tests/fuzz.py --kind task --seed 123  # one case again, with its traceback

A case takes valid files, damages one of them (values replaced by odd ones, bytes cut, doubled or changed), and runs a
few commands in a forked child. What a case does depends on its kind and its seed alone. Not part of the test suite.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import fuzz_samples

from prlm_edge.cli import main

SECONDS, MEGABYTES = 20, 1500  # of one case
DEEP = 100_000
ODD_TEXTS = (
    *("", " ", "\0", "\x1b[2J", "\u202e", "\ud800", "é" * 300, "a" * 5000, "~", "~nouser", "~nouser/x", "/", ".", ".."),
    *("/dev/null", "/dev/zero", "/dev/stdin", "/proc/self/mem", "http://[::1", "http://", "https://a:b", "http://\0"),
    *("http://127.0.0.1:1/v1", "http://127.0.0.1:99999", "http://exa mple", "http://*", "http://" + "a" * 300, "NaN"),
    *("-1", "0", "1e999", "9" * 5000, "-" + "9" * 30, "٣", "0x10", "1_000", "\u2028", "../../x", "hf://", "hf://a/b/c"),
    *("{{", "{% for", "{text}{text}", "%s", "{0}", "2024-02-30", "9999-99-99", "off", "none", "--", "-", "=", ",", ":"),
)
ODD_VALUES = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, 10**400, -0.5, 1e308, float("inf"), float("nan")),
    *([], {}, [[]], [None], {"": {}}, [0] * 200, {"a": [1]}, ["x"], [{}]),
)
ODD_BYTES = (
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    b"\r",
    b"\n",
    b'"',
    b"\\",
    b"[",
    b"{",
    b"1e999",
    b"\\ud800",
)


class Finding(NamedTuple):
    """A case that went wrong: how, and where in the code."""

    what: str
    detail: str


def odd(rng: random.Random) -> Any:
    """A value that few expect."""
    return rng.choice(ODD_TEXTS) if rng.random() < 0.4 else rng.choice(ODD_VALUES)


def typed(rng: random.Random) -> str:
    """An odd value as a command line or an environment may hold it."""
    return str(odd(rng) if rng.random() < 0.5 else rng.choice(ODD_TEXTS)).replace("\0", "").replace("\ud800", "\udcff")


def damaged_value(rng: random.Random, value: Any) -> Any:
    """A JSON value with one place of it replaced, removed, renamed, doubled, or nested deeply."""
    paths = [path for path, _ in places(value)]
    path = rng.choice(paths)
    if not path:
        return odd(rng)
    value = json.loads(json.dumps(value))
    parent = value
    for step in path[:-1]:
        parent = parent[step]
    way = rng.randrange(10)
    if way == 0:
        del parent[path[-1]]
    elif way == 1 and isinstance(parent, dict):
        parent[str(rng.choice(ODD_TEXTS))] = parent.pop(path[-1])
    elif way == 2 and isinstance(parent, list):
        parent += [parent[path[-1]]] * rng.choice((1, 50))
    else:
        parent[path[-1]] = odd(rng)
    return value


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every place of a JSON value, with what stands there."""
    yield path, value
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value[:50]):
            yield from places(inner, (*path, key))


def damaged_bytes(rng: random.Random, data: bytes) -> bytes:
    """`data` with a few bytes cut out, doubled, changed or put in."""
    for _ in range(rng.choice((1, 1, 1, 3, 10))):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.choice((1, 4, 20, len(data))))
        middle = rng.choice(
            (
                b"",
                data[at:end] * 2,
                rng.choice(ODD_BYTES),
                rng.randbytes(8),
                str(rng.choice(ODD_TEXTS)).encode("utf-8", "surrogatepass"),
            )
        )
        data = data[:at] + middle + data[end if rng.random() < 0.7 else at :]
    return data


def dumps(value: Any) -> bytes:
    """JSON that may hold infinite numbers and lone surrogates."""
    return json.dumps(value).replace("Infinity", "1e999").encode()


def toml(value: Any) -> bytes:
    """A flat table as TOML; what TOML can't say is written as JSON, and is then damage too."""
    return (
        "".join(f"{key} = {json.dumps(item)}\n" for key, item in value.items()).encode()
        if isinstance(value, dict)
        else dumps(value)
    )


def damaged(rng: random.Random, path: Path) -> None:
    """Damage a file in place, by what it is: JSON, JSON lines, TOML, or bytes."""
    data = path.read_bytes()
    way = rng.random()
    if way < 0.08:
        data = rng.choice(
            (
                b"[" * DEEP,
                b'{"a":' * DEEP,
                b"x = " + b"[" * DEEP,
                b"a." * DEEP,
                b"",
                b"\0" * 100,
                b"- " * DEEP,
                b"[" * DEEP + b"]" * DEEP,
            )
        )
    elif way < 0.65 and path.suffix in (".json", ".jsonl", ".toml", ".yaml"):
        with contextlib.suppress(ValueError, RecursionError):
            if path.suffix == ".json":
                data = dumps(damaged_value(rng, json.loads(data)))
            elif path.suffix == ".jsonl":
                lines = data.splitlines()
                at = rng.randrange(len(lines))
                lines[at] = dumps(damaged_value(rng, json.loads(lines[at])))
                data = b"\n".join(lines) + b"\n"
            elif path.suffix == ".toml":
                data = toml(damaged_value(rng, tomllib.loads(data.decode())))
    else:
        data = damaged_bytes(rng, data)
    path.write_bytes(data)


# --- Kinds: each gets a copy of the samples as its folder, and returns the commands to run there. ---

Kind = Callable[[random.Random, Path], list[list[str]]]
GENERATE = "generate --model onnx --user me.jsonl --answer-tokens 2 --reasoning off bread"


def some(rng: random.Random, n: int, commands: str) -> list[list[str]]:
    """`n` of the commands, which are separated by semicolons."""
    return [one.split() for one in rng.sample(commands.split(";"), n)]


def config(rng: random.Random, home: Path) -> list[list[str]]:
    damaged(rng, home / "config" / "config.toml")
    commands = "config show;config set k 4;config unset k;search bread;config show --json;task list;profile list;doctor"
    return some(rng, 3, f"{commands};cache show;{GENERATE}")


def environment(rng: random.Random, home: Path) -> list[list[str]]:
    from prlm_edge.settings import KEYS

    for key in rng.sample([*KEYS, "home"], 2):
        os.environ[f"PRLM_{key.upper()}"] = typed(rng)
    commands = (
        "config show;search bread;task which x;cache show;model list;profile list;profile add x;model path;doctor"
    )
    return some(rng, 3, f"{commands};{GENERATE}")


def task(rng: random.Random, home: Path) -> list[list[str]]:
    damaged(rng, home / "config" / "tasks" / "headline.toml")
    return some(rng, 3, f"task list;task show headline;task which headline for x;{GENERATE} -t headline")


def profile(rng: random.Random, home: Path) -> list[list[str]]:
    damaged(rng, home / "me.jsonl")
    os.environ["PRLM_USER"] = "me.jsonl"
    commands = "profile list;profile verify;profile stats;profile show p1;search bread;profile add --title x y"
    more = "profile rm p1 --yes;profile repair;profile import jsonl more.jsonl --update"
    return some(rng, 3, f"{commands};{more};{GENERATE}")


def data(rng: random.Random, home: Path) -> list[list[str]]:
    damaged(rng, home / rng.choice(("data.jsonl", "data.jsonl", "plan.yaml")))
    plan = rng.choice(("", "--plan plan.yaml --set model=onnx", "--set reasoning=off --set model=onnx"))
    ask = rng.choice(("", "--ask short", "--ask diff"))
    commands = [f"eval run data.jsonl --out new --baselines --limit 2 {plan} {ask}", "eval show new --seen data.jsonl"]
    if rng.random() < 0.2:
        commands.append("train warmstart --data data.jsonl --model hf --out t --set warmstart.max_steps=1")
    return [one.split() for one in commands]


def run_folder(rng: random.Random, home: Path) -> list[list[str]]:
    names = "run.json answers.jsonl scores.jsonl summary.json timings.jsonl votes.jsonl ../run.jsonl"
    damaged(rng, home / "run" / rng.choice(names.split()))
    commands = "eval show run --full;eval score run --data run.jsonl;eval compare run:k=4 :k=1"
    more = "eval show run --json --seen run.jsonl;eval report run --out r.html --markdown r.md"
    more += ";eval ab run:k=4 :k=1 --out run/votes.jsonl --show"
    return some(rng, 3, f"{commands};{more}")


def onnx(rng: random.Random, home: Path) -> list[list[str]]:
    names = ["genai_config.json", "tokenizer.json", "tokenizer_config.json", "prlm.json", "chat_template.jinja"]
    damaged(rng, home / "onnx" / rng.choice([name for name in names if (home / "onnx" / name).exists()]))
    if rng.random() < 0.7:  # the card's hashes would refuse most damage
        (home / "onnx" / "prlm.json").unlink(missing_ok=True)
    return [GENERATE.split()]


def installs(rng: random.Random, home: Path) -> list[list[str]]:
    mine = "data/models/mine"
    damaged(rng, home / rng.choice(("export/export.json", f"{mine}/manifest.json", f"{mine}/tuned.json")))
    commands = (
        "model install export;model list;model verify mine;model path mine;model rm mine --yes;generate -m mine x"
    )
    return some(rng, 3, commands)


def adapters(rng: random.Random, home: Path) -> list[list[str]]:
    damaged(rng, home / "adapter" / rng.choice(("adapter_config.json", "adapter_model.safetensors")))
    kind = rng.choice(("adapter", "gguf", "onnx"))
    return some(rng, 1, f"export {kind} adapter --model hf --data data.jsonl --limit 1 --out made")


def training(rng: random.Random, home: Path) -> list[list[str]]:
    names = "recipe.yaml trained/run.json trained/recipe.yaml trained/run.jsonl trained/samples.jsonl hf/config.json"
    damaged(rng, home / rng.choice(names.split()))
    return some(rng, 2, "train recipes recipe.yaml;train report trained;export gguf trained --out made --model hf")


def chooses(rng: random.Random, home: Path) -> list[list[str]]:
    which = rng.choice(("blend.json", "reward/reward.json", "reward/tokenizer.json"))
    damaged(rng, home / which)
    select = "blend --blend-weights blend.json" if which == "blend.json" else "reward --reward-model reward"
    return some(rng, 1, f"{GENERATE} --best-of 2 --temperature 1 --select {select}")


def gguf(rng: random.Random, home: Path) -> list[list[str]]:
    path = home / rng.choice(("model.gguf", "lora.gguf"))
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(min(len(content), 3000))
        new = (b"\xff" * 8, b"\0" * 8, rng.randbytes(1), rng.randbytes(8), b"")
        content[at : at + rng.choice((0, 1, 4, 8))] = rng.choice(new)
    path.write_bytes(content)
    adapter = "" if path.stem == "model" else "--adapter lora.gguf"
    bake = "model bake model.gguf lora.gguf --out b.gguf"
    return some(rng, 1, f"generate --model model.gguf {adapter} --retriever none --answer-tokens 2 x;{bake}")


def importers(rng: random.Random, home: Path) -> list[list[str]]:
    commands = "markdown note.md;csv table.csv;csv table.csv --text body --title title;jsonl more.jsonl;jsonl list.json"
    [words] = some(rng, 1, f"{commands};lamp LaMP_5_questions.json;lamp LaMP_5_questions.json --owner u1")
    damaged(rng, home / words[1])
    return [["profile", "import", *words, "--user", "new.jsonl"], ["profile", "list", "--user", "new.jsonl"]]


def piped(rng: random.Random, home: Path) -> list[list[str]]:
    damaged(rng, home / "change.diff")
    sys.stdin = io.TextIOWrapper(io.BytesIO((home / "change.diff").read_bytes()), encoding="utf-8")
    return some(rng, 1, f"generate --prompt-only -t commit -;{GENERATE} -t commit -;search -;profile add -")


def arguments(rng: random.Random, home: Path) -> list[list[str]]:
    kinds = (config, environment, task, profile, run_folder, installs, training, chooses, importers)
    words = rng.choice(rng.choice(kinds)(random.Random(rng.random()), home))
    for _ in range(rng.choice((1, 1, 2))):
        words[rng.randrange(1, len(words) + 1) :][:1] = []
        words.insert(rng.randrange(1, len(words) + 1), typed(rng))
    return [words]


KINDS: dict[str, Kind] = {
    one.__name__: one
    for one in (
        *(config, environment, task, profile, data, run_folder, onnx, installs),
        *(adapters, training, chooses, gguf, importers, piped, arguments),
    )
}


def one_case(kind: str, seed: int, samples: Path, *, debug: bool = False) -> Finding | None:
    """Run a case in a forked child; what went wrong with it, or None."""
    with tempfile.TemporaryDirectory(prefix="prlm-fuzz-") as folder:
        home, log = Path(folder) / "home", Path(folder) / "log"
        shutil.copytree(samples, home)
        child = os.fork()
        if child == 0:
            _child(kind, seed, home, log, debug=debug)
        deadline = time.monotonic() + 6 * SECONDS  # of the clock: the machine may be busy
        while True:
            done, status, usage = os.wait4(child, os.WNOHANG)
            if done:
                break
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGUSR1)  # shows where it is
                time.sleep(0.5)
                os.kill(child, signal.SIGKILL)
                os.wait4(child, 0)
                return Finding("hang", _tail(log))
            time.sleep(0.005)
        if status != 0:
            return Finding(
                f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "exit 70 or traceback", _tail(log)
            )
        grown = (usage.ru_maxrss - resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1024
        return Finding(f"{grown:.0f} MB more", _tail(log)) if grown > MEGABYTES else None


def _child(kind: str, seed: int, home: Path, log: Path, *, debug: bool) -> None:
    import faulthandler

    code = 1
    try:
        out = log.open("wb", buffering=0)
        for descriptor in (1, 2):
            os.dup2(out.fileno(), descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdin = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        sys.stdout, sys.stderr = (
            io.TextIOWrapper(io.FileIO(n, "w"), encoding="utf-8", errors="strict") for n in (1, 2)
        )
        faulthandler.enable(out)
        for asked in (signal.SIGUSR1, signal.SIGXCPU):  # shows where it is; a second later the system kills it
            faulthandler.register(asked, out)
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
        os.environ |= {"PRLM_HOME": str(home), "PRLM_DEBUG": "1" if debug else "0"}
        os.chdir(home)
        codes = []
        for argv in KINDS[kind](random.Random(f"{kind} {seed}"), home):
            if argv:
                print(f"$ {json.dumps(argv)[:600]}", flush=True)
                codes.append(main(argv))
                print(f"-> {codes[-1]}", flush=True)
                if codes[-1] == 70:
                    break
        shown = log.read_bytes()
        bad = 70 in codes or (not debug and re.search(rb"^Traceback |^Exception ", shown, re.MULTILINE))
        code = 1 if bad else 0
    except BaseException:  # noqa: BLE001 - SystemExit too: `main` returns its code
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _tail(log: Path) -> str:
    text = log.read_text("utf-8", "replace")
    return "\n".join(line[:300] for line in text.splitlines()[-40:])


def _place(finding: Finding) -> str:
    """By what findings are counted as the same: the last lines of the code that a traceback names."""
    frames = re.findall(r'File "[^"]*?((?:prlm_edge|train|export)/[^"]+)", line (\d+)', finding.detail)
    last = finding.detail.strip().splitlines()[-1:] or [""]
    errors = [
        line for line in finding.detail.splitlines() if re.match(r"[A-Za-z_.]*(Error|Exception|Exit|Interrupt)\b", line)
    ]
    return " ".join(
        map(
            str,
            (
                finding.what,
                (frames[-1:] if finding.what.startswith("exit") else frames[:1]) or last,
                [e[:80] for e in errors[-1:]],
            ),
        )
    )


def fuzz(kinds: list[str], seed: int, seconds: float, samples: Path) -> int:
    """Run cases until the time is over; returns how many places in the code went wrong."""
    ends, found, cases = time.monotonic() + seconds, Counter[str](), Counter[str]()
    spent = dict.fromkeys(kinds, 0.0)
    while (begun := time.monotonic()) < ends:
        kind = min(kinds, key=spent.__getitem__)  # each gets as much time
        case = seed + cases[kind]
        cases[kind] += 1
        finding = one_case(kind, case, samples)
        spent[kind] += time.monotonic() - begun
        if finding is None:
            continue
        shown = one_case(kind, case, samples, debug=True) if finding.what.startswith("exit") else None
        shown = shown or finding
        place = _place(shown)
        found[place] += 1
        if found[place] == 1:
            print(f"--- {shown.what}: --kind {kind} --seed {case}\n{shown.detail}\n", flush=True)
    print(f"{sum(cases.values())} cases from seed {seed} on: {dict(cases)}")
    for place, times in found.most_common():
        print(f"{times:5d}  {place}")
    print(f"{len(found)} findings")
    return len(found)


def command() -> int:
    """Read the options, make the samples, run."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--minutes", type=float, default=10)
    options.add_argument("--seed", type=int, help="one case alone with --kind, else the first seed")
    options.add_argument("--kind", choices=KINDS, action="append")
    options.add_argument("--samples", type=Path, help="a folder that keeps the samples for the next time")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="prlm-samples-") as folder:
        samples = given.samples or Path(folder) / "samples"
        if not samples.exists():
            if (child := os.fork()) == 0:
                fuzz_samples.make(samples)
                os._exit(0)
            if os.waitpid(child, 0)[1]:
                return 1
        _import_all()
        if given.seed is not None and given.kind:
            finding = one_case(given.kind[0], given.seed, samples, debug=True)
            print(f"{finding.what}\n{finding.detail}" if finding else "it holds")
            return 1 if finding else 0
        seed = given.seed if given.seed is not None else random.SystemRandom().randrange(10**6)
        print(f"first seed {seed}", flush=True)
        return 1 if fuzz(given.kind or list(KINDS), seed, given.minutes * 60, samples) else 0


def _import_all() -> None:
    """Load what most cases need, so that a forked child need not."""
    import importlib

    from prlm_edge.cli.shared.table import VERBS

    for name in (
        *(f"prlm_edge.cli.{verb}" for verb in VERBS),
        "torch",
        "transformers",
        "peft",
        "gguf",
        "rouge_score",
        "sacrebleu",
        "jieba",
        "matplotlib.pyplot",
        "onnxruntime",
        "tokenizers",
        "jinja2",
        "prlm_edge.evaluate.runner",
        "prlm_edge.train.config",
        "prlm_edge.export.pipeline",
        "prlm_edge.writer",
        "prlm_edge.ingest.git",
        "prlm_edge.backends.onnx.backend",
    ):
        importlib.import_module(name)


if __name__ == "__main__":
    sys.exit(command())
