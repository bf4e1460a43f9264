"""What this machine offers a CPU-bound program: usable cores, threads to start, instruction sets, memory.

`os.cpu_count()` counts hyper-threads and ignores the affinity mask and a container's quota; a language model is slower
with that many threads than with the right number. Facts come from /proc and /sys on Linux (under `root`, so that tests
can bring their own), from sysctl on macOS, and from kernel32 on Windows. A function returns None for an unknown fact,
or falls back as its docstring says.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")
# Instruction sets that llama.cpp and ONNX Runtime have kernels for, by the names of Linux (x86, then ARM).
FLAGS = (
    "sse4_2",
    "avx",
    "f16c",
    "fma",
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "neon",
    "asimddp",
    "i8mm",
    "sve",
)
_ARM_NEON = "asimd"  # what Linux calls NEON on 64-bit ARM
_NO_QUOTA = 1 << 60  # cgroup v1 writes a huge number for "no limit"


def affinity() -> frozenset[int]:
    """The logical CPUs this process may run on; all of them on systems without an affinity mask."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def quota_cores(root: Path = ROOT) -> float | None:
    """The cgroup CPU quota (v1 or v2, the tightest of the path's levels) in cores; None without one."""
    quotas = [float(quota) / float(period) for quota, period in _quotas(root) if _positive(quota) and _positive(period)]
    return min(quotas, default=None)


def usable_cores(root: Path = ROOT, cpus: frozenset[int] | None = None) -> int:
    """Logical cores by affinity and cgroup quota (a fraction is rounded), at least 1.

    Args:
        root: Where /proc and /sys are.
        cpus: The affinity mask; that of this process by default.
    """
    count = len(affinity() if cpus is None else cpus)
    quota = quota_cores(root)
    return max(1, count if quota is None else min(count, int(quota + 0.5)))


def physical_cores(root: Path = ROOT, cpus: frozenset[int] | None = None) -> int:
    """Physical cores within the affinity mask, at least 1.

    Falls back to macOS's sysctl (performance cores only, where there are two kinds), then, as llama.cpp does, to half
    the logical cores where there are more than four.
    """
    cpus = affinity() if cpus is None else cpus
    cores = {_siblings(root, cpu) for cpu in cpus}
    if None not in cores:
        return max(1, len(cores))
    if sys.platform == "darwin":
        for name in ("hw.perflevel0.physicalcpu", "hw.physicalcpu"):
            if (text := _sysctl(name)).isdigit():
                return max(1, int(text))
    return max(1, len(cpus) if len(cpus) <= 4 else len(cpus) // 2)


def default_threads(root: Path = ROOT, cpus: frozenset[int] | None = None) -> int:
    """Threads for a compute-bound program: one for each physical core within quota and affinity, at least 1."""
    return min(usable_cores(root, cpus), physical_cores(root, cpus))


def threads_for(asked: int) -> int:
    """How many threads to run where `asked` are wanted (0 for `default_threads`).

    Never more than there are cores to run them: threads beyond that wait for each other by spinning, for minutes.
    """
    return min(asked, usable_cores()) if asked else default_threads()


def cpu_flags(root: Path = ROOT) -> tuple[str, ...] | None:
    """The `FLAGS` that the CPU has; None where the system doesn't say."""
    words = set(_cpuinfo(root, ("flags", "Features")).split())
    if not words and root == ROOT:
        words = _darwin_flags() if sys.platform == "darwin" else _windows_flags()
    if _ARM_NEON in words:
        words.add("neon")
    return tuple(flag for flag in FLAGS if flag in words) if words else None


def cpu_name(root: Path = ROOT) -> str:
    """The CPU's marketing name; "" where the system doesn't say."""
    if name := _cpuinfo(root, ("model name", "Model")):
        return name
    if root != ROOT:
        return ""
    return _sysctl("machdep.cpu.brand_string") or os.environ.get("PROCESSOR_IDENTIFIER", "")


def memory(root: Path = ROOT) -> tuple[int, int] | None:
    """(total, available) memory in bytes, within the cgroup's limit; None where the system doesn't say."""
    fields = dict(line.split(":", 1) for line in _read(root / "proc/meminfo").splitlines() if ":" in line)
    try:
        total, free = (int(fields[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))
    except (KeyError, ValueError, IndexError):
        return _other_memory() if root == ROOT else None
    for folder in _cgroups(root, "memory"):
        for limit_file, used_file in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit, used = _read(folder / limit_file), _read(folder / used_file)
            if limit.isdigit() and int(limit) < min(total, _NO_QUOTA):
                total = int(limit)
            if limit.isdigit() and used.isdigit() and int(limit) < _NO_QUOTA:
                free = max(0, min(free, int(limit) - int(used)))
    return total, free


def peak_memory() -> int | None:
    """The most memory that this process has held so far, in bytes; None where the system doesn't say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _quotas(root: Path) -> Iterator[tuple[str, str]]:
    for folder in _cgroups(root, "cpu"):
        if text := _read(folder / "cpu.max"):
            quota, _, period = text.partition(" ")
            yield quota, period
        yield _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")


def _cgroups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's cgroup and all its parents, for v2 and for v1's `controller`."""
    base = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if names == "":
            mounts = [base, base / "unified"]
        elif controller in names.split(","):
            mounts = [base / names, base / controller]
        else:
            continue
        # In a container the path may be the host's, and its own limits are at the mount's top.
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for mount in dict.fromkeys(mounts):
            for depth in range(len(parts), -1, -1):
                yield mount.joinpath(*parts[:depth])


def _siblings(root: Path, cpu: int) -> str | None:
    """A string that the hyper-threads of one physical core share; None where the system doesn't say."""
    topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
    return _read(topology / "core_cpus_list") or _read(topology / "thread_siblings_list") or None


def _cpuinfo(root: Path, keys: tuple[str, ...]) -> str:
    """The first value of any of `keys` in /proc/cpuinfo."""
    for line in _read(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in keys:
            return value.strip()
    return ""


def _positive(text: str) -> bool:
    return text.isdigit() and int(text) > 0


def _read(path: Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_text("utf-8").strip()
    return ""


@functools.cache
def _sysctl(name: str) -> str:
    if sys.platform != "darwin":
        return ""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, timeout=5).stdout.strip()
    return ""


def _darwin_flags() -> set[str]:
    if _sysctl("hw.optional.arm64") == "1":
        features = {"asimddp": "FEAT_DotProd", "i8mm": "FEAT_I8MM"}
        return {"asimd", *(flag for flag, name in features.items() if _sysctl(f"hw.optional.arm.{name}") == "1")}
    text = f"{_sysctl('machdep.cpu.features')} {_sysctl('machdep.cpu.leaf7_features')}".lower()
    return set(text.replace("sse4.2", "sse4_2").replace("avx1.0", "avx").split())


def _windows_flags() -> set[str]:
    if sys.platform != "win32":
        return set()
    import ctypes

    # IsProcessorFeaturePresent's numbers: https://learn.microsoft.com/windows/win32/api/processthreadsapi
    numbers = {"sse4_2": 38, "avx": 39, "avx2": 40, "avx512f": 41, "asimd": 19, "asimddp": 43}
    present = ctypes.windll.kernel32.IsProcessorFeaturePresent
    return {flag for flag, number in numbers.items() if present(number)}


def _other_memory() -> tuple[int, int] | None:
    if sys.platform == "win32":
        import ctypes

        class Status(ctypes.Structure):
            _fields_ = [
                ("length", ctypes.c_ulong),
                ("load", ctypes.c_ulong),
                *((name, ctypes.c_ulonglong) for name in ("total", "free", "a", "b", "c", "d", "e")),
            ]

        status = Status(length=ctypes.sizeof(Status))
        found = ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
        return (int(status.total), int(status.free)) if found else None
    text = _sysctl("hw.memsize")
    return (int(text), int(text)) if text.isdigit() else None
