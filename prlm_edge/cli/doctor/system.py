"""What `prlm-edge doctor` says about this machine: packages that load or don't, the CPU, threads and memory.

A package is tried in a process of its own: one built for another CPU dies of an illegal instruction, and then only that
process does.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from prlm_edge import cpu
from prlm_edge.cli.doctor.checks import DENSE, Check, chooses_by_reward
from prlm_edge.cli.shared.table import PROG
from prlm_edge.models.engine import GGUF, ONNX, engine_of
from prlm_edge.settings import Settings

TRY_TIMEOUT_S = 60.0
_LLAMA = (
    "from prlm_edge.backends.llama import lib as llama_lib; print(llama_lib.load().llama_print_system_info().decode())"
)
_ONNX_USES = "runs ONNX models, made of GGUF ones; dense and hybrid retrieval, select reward"
_OF_ENGINE = {GGUF: ("llama-cpp-python",), ONNX: ("onnxruntime", "tokenizers", "jinja2", "gguf")}


class Package(NamedTuple):
    """An optional package: the extra that brings it, what it is for, and the code that proves that it loads."""

    name: str
    extra: str
    purpose: str
    proof: str


PACKAGES = (
    Package("llama-cpp-python", "gguf", "runs GGUF models", _LLAMA),
    Package("onnxruntime", "onnx", _ONNX_USES, "import onnxruntime"),
    Package("tokenizers", "onnx", _ONNX_USES, "import tokenizers"),
    Package("jinja2", "onnx", "renders a model's chat template for ONNX Runtime", "import jinja2"),
    Package("huggingface_hub", "hub", "`model pull` of hf:// models", "import huggingface_hub"),
    Package("gguf", "bake", "merges an adapter into its model: the default's own, and `model bake`", "import gguf"),
    Package("rank_bm25", "", "BM25 without the cache", "import rank_bm25"),
    Package("numpy", "", "arithmetic of retrieval", "import numpy"),
)


def check_packages(found: Settings) -> Iterator[Check]:
    """Every package that some part of prlm-edge uses: there, of the version it was made for, and loading."""
    running = {p.name: _start(p.proof) for p in PACKAGES if _version(p.name)}
    needed, engine = _needed(found), engine_of(found)
    of_engine = () if found.base_url else _OF_ENGINE[engine]
    for package in PACKAGES:
        extra = "local" if package.name in of_engine and engine == ONNX else package.extra
        yield _package(package._replace(extra=extra), running.get(package.name), package.name in needed)


def check_machine(found: Settings) -> Iterator[Check]:
    """The CPU, the threads that `generate` uses, and the memory."""
    check = partial(Check, "Machine")
    flags = cpu.cpu_flags()
    offers = "unknown instruction sets" if flags is None else " ".join(flags) or "no vector instructions that help"
    yield check("cpu", "ok", f"{cpu.cpu_name() or 'unknown CPU'}: {offers}")
    quota = cpu.quota_cores()
    limits = f", a quota of {quota:.3g}" if quota else ""
    usable, physical = cpu.usable_cores(), cpu.physical_cores()
    yield check("cores", "ok", f"{len(cpu.affinity())} logical and {physical} physical for this process{limits}")
    if found.threads > usable:
        fix = "prlm-edge config unset threads"
        yield check("threads", "warn", f"{found.threads} set, but only {usable} cores may be used", fix)
    elif found.threads:
        yield check("threads", "ok", f"{found.threads} for generate")
    else:
        threads = f"{cpu.default_threads()} to read prompts and to decode; small models decode on 1"
        yield check("threads", "ok", threads)
    memory = cpu.memory()
    text = "unknown" if memory is None else f"{memory[0] / 1e9:.1f} GB, {memory[1] / 1e9:.1f} GB available"
    yield check("memory", "ok", text)


def pip_command(*packages: str) -> str:
    """The command that installs into this interpreter's environment, whichever one is active in the shell."""
    quoted = " ".join(f'"{p}"' for p in packages)
    pip = shutil.which("pip")
    if pip is not None and Path(pip).parent == Path(sys.executable).parent:
        return f"pip install {quoted}"
    python = shlex.quote(sys.executable)
    if importlib.util.find_spec("pip") is None:
        return f"uv pip install --python {python} {quoted}"
    return f"{python} -m pip install {quoted}"


def check_engine(found: Settings) -> Iterator[Check]:
    """Which engine runs a local model, why, and how to get the other one."""
    if not found.base_url:
        yield _engine(found)


def _engine(found: Settings) -> Check:
    check = partial(Check, "Packages", "engine")
    engine = engine_of(found)
    why = "the setting engine says so" if found.engine != "auto" else "llama-cpp-python is installed"
    if engine == GGUF:
        return check("ok", f"llama.cpp (gguf): {why}; `--engine onnx` takes ONNX Runtime")
    if found.engine == "auto":
        why = "llama-cpp-python is not installed"
    if importlib.util.find_spec("onnxruntime") is None:
        text = f"none: {why}, nor is ONNX Runtime" if found.engine == "auto" else f"{why}, and it is not installed"
        return check("missing", text, pip_command(f"{PROG}[local]"), needed=True)
    if importlib.util.find_spec("llama_cpp") is not None:
        return check("ok", f"ONNX Runtime (onnx): {why}; `--engine gguf` takes llama.cpp")
    return check(
        "note", f"ONNX Runtime (onnx): {why}; to have llama.cpp compiled takes minutes", pip_command(f"{PROG}[gguf]")
    )


def _needed(found: Settings) -> set[str]:
    needed = set() if found.base_url else set(_OF_ENGINE[engine_of(found)])
    if found.retriever in DENSE or chooses_by_reward(found):
        needed |= {"onnxruntime", "tokenizers", "numpy"}
    if found.retriever in ("bm25", "hybrid"):
        needed |= {"numpy"}
    return needed


def _package(package: Package, process: subprocess.Popen[str] | None, needed: bool) -> Check:
    check = partial(Check, "Packages", package.name, needed=needed)
    if process is None:
        fix = pip_command(f"{PROG}[{package.extra}]" if package.extra else PROG)
        return check("missing" if needed else "note", f"not installed: {package.purpose}", fix)
    version, wanted = _version(package.name), _pinned(package.name)
    reinstall = pip_command(f"{package.name}=={version}") + " --force-reinstall --no-deps --no-cache-dir"
    problem, said = _outcome(process)
    if problem:
        return check("bad", f"{version} does not load: {problem}", reinstall)
    if wanted and version != wanted:
        fix = pip_command(f"{package.name}=={wanted}")
        return check("warn", f"{version}, but prlm-edge was made for {wanted}", fix)
    if package.name == "llama-cpp-python" and (slow := _unused_flags(said)):
        return check("warn", f"{version} was built without {slow}, which this CPU has", reinstall)
    return check("ok", f"{version}: {package.purpose}")


def trial(code: str) -> str:
    """What goes wrong when `code` runs in a process of its own; "" where nothing does."""
    return _outcome(_start(code))[0]


def _start(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )


def _outcome(process: subprocess.Popen[str]) -> tuple[str, str]:
    """(what went wrong or "", standard output) of a trial."""
    try:
        said, complaint = process.communicate(timeout=TRY_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return f"no answer within {TRY_TIMEOUT_S:.0f} s", ""
    if process.returncode == 0:
        return "", said
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        return ("built for another CPU (SIGILL)" if name == "SIGILL" else f"it dies of {name}"), said
    lines = complaint.strip().splitlines()
    return (lines[-1] if lines else f"exit code {process.returncode}"), said


def _unused_flags(system_info: str) -> str:
    """Instruction sets that matter most, that the CPU has and llama.cpp was built without."""
    built = set(re.findall(r"(\w+) = 1", system_info))
    has = set(cpu.cpu_flags() or ())
    pairs = {"avx2": "AVX2", "fma": "FMA", "f16c": "F16C", "avx512f": "AVX512", "asimddp": "DOTPROD", "neon": "NEON"}
    return ", ".join(name for flag, name in pairs.items() if built and flag in has and name not in built)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _pinned(name: str) -> str | None:
    """The version that our own metadata pins exactly, if any."""
    try:
        lines = metadata.requires(PROG) or []
    except metadata.PackageNotFoundError:
        return None
    pins = (re.match(rf"{re.escape(name)}\s*==\s*([\w.]+)", line) for line in lines)
    return next((match[1] for match in pins if match), None)
