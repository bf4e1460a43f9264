"""prlm_edge.cpu against made-up /proc and /sys trees of machines that we don't have, and against this machine."""

import os
import sys

import pytest

from prlm_edge import cpu


@pytest.fixture
def tree(tmp_path):
    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def siblings(groups, name="core_cpus_list"):
    """Topology files of a machine whose hyper-threads are grouped like ((0, 4), (1, 5))."""
    return {
        f"sys/devices/system/cpu/cpu{one}/topology/{name}": ",".join(map(str, group)) + "\n"
        for group in groups
        for one in group
    }


def cpus(n):
    return frozenset(range(n))


def test_no_limits_gives_every_core(tree):
    assert cpu.usable_cores(tree({}), cpus(8)) == 8


@pytest.mark.parametrize(
    ("cpu_max", "cores"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("140000 100000", 1),
        ("10000 100000", 1),
        ("1600000 100000", 8),
        ("garbage", 8),
        ("0 100000", 8),
    ],
)
def test_cgroup_v2_quota(tree, cpu_max, cores):
    root = tree({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": cpu_max + "\n"})
    assert cpu.usable_cores(root, cpus(8)) == cores


def test_cgroup_v2_takes_the_tightest_of_all_levels(tree):
    root = tree(
        {
            "proc/self/cgroup": "0::/user.slice/app.scope\n",
            "sys/fs/cgroup/user.slice/cpu.max": "300000 100000\n",
            "sys/fs/cgroup/user.slice/app.scope/cpu.max": "max 100000\n",
        }
    )
    assert cpu.quota_cores(root) == 3.0


def test_cgroup_path_of_the_host_seen_in_a_container(tree):
    root = tree({"proc/self/cgroup": "0::/../../docker/abc\n", "sys/fs/cgroup/cpu.max": "100000 50000\n"})
    assert cpu.quota_cores(root) == 2.0


@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpu"])
def test_cgroup_v1_quota(tree, mount):
    root = tree(
        {
            "proc/self/cgroup": "5:memory:/box\n4:cpu,cpuacct:/box\n",
            f"sys/fs/cgroup/{mount}/box/cpu.cfs_quota_us": "400000\n",
            f"sys/fs/cgroup/{mount}/box/cpu.cfs_period_us": "100000\n",
        }
    )
    assert cpu.usable_cores(root, cpus(16)) == 4


def test_cgroup_v1_without_a_quota(tree):
    root = tree(
        {
            "proc/self/cgroup": "1:cpu:/\n0::/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        }
    )
    assert cpu.quota_cores(root) is None


@pytest.mark.parametrize("name", ["core_cpus_list", "thread_siblings_list"])
def test_hyper_threads_count_once(tree, name):
    root = tree(siblings([(0, 4), (1, 5), (2, 6), (3, 7)], name))
    assert cpu.physical_cores(root, cpus(8)) == 4
    assert cpu.default_threads(root, cpus(8)) == 4


def test_affinity_limits_physical_cores(tree):
    root = tree(siblings([(0, 4), (1, 5), (2, 6), (3, 7)]))
    assert cpu.physical_cores(root, frozenset({0, 4})) == 1  # both threads of one core
    assert cpu.physical_cores(root, frozenset({0, 1})) == 2
    assert cpu.default_threads(root, frozenset({0, 4, 1})) == 2


def test_quota_below_the_physical_cores_wins(tree):
    root = tree(
        siblings([(0,), (1,), (2,), (3,)]) | {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}
    )
    assert cpu.default_threads(root, cpus(4)) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="the fallback of other systems asks the system")
@pytest.mark.parametrize(("logical", "physical"), [(1, 1), (4, 4), (8, 4), (16, 8)])
def test_without_topology_half_the_logical_cores_beyond_four(tree, logical, physical):
    assert cpu.physical_cores(tree({}), cpus(logical)) == physical


def test_x86_flags(tree):
    root = tree({"proc/cpuinfo": "model name\t: Some Xeon\nflags\t\t: fpu sse4_2 avx avx2 fma avx512f madeup\n"})
    assert cpu.cpu_flags(root) == ("sse4_2", "avx", "fma", "avx2", "avx512f")
    assert cpu.cpu_name(root) == "Some Xeon"


def test_arm_flags(tree):
    root = tree({"proc/cpuinfo": "Features\t: fp asimd asimddp i8mm\nModel\t: Raspberry Pi 5\n"})
    assert cpu.cpu_flags(root) == ("neon", "asimddp", "i8mm")
    assert cpu.cpu_name(root) == "Raspberry Pi 5"


def test_unknown_flags_are_none_and_not_empty(tree):
    assert cpu.cpu_flags(tree({})) is None
    assert cpu.cpu_name(tree({})) == ""


MEMINFO = "MemTotal:       8000000 kB\nMemFree: 1 kB\nMemAvailable:   6000000 kB\n"


def test_memory(tree):
    assert cpu.memory(tree({"proc/meminfo": MEMINFO})) == (8_000_000 * 1024, 6_000_000 * 1024)


def test_memory_within_a_container(tree):
    root = tree(
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": "1000000000\n",
            "sys/fs/cgroup/memory.current": "400000000\n",
        }
    )
    assert cpu.memory(root) == (1_000_000_000, 600_000_000)


def test_memory_v1_without_a_limit(tree):
    root = tree(
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "4:memory:/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "400000000\n",
        }
    )
    assert cpu.memory(root) == (8_000_000 * 1024, 6_000_000 * 1024)


def test_memory_unknown(tree):
    assert cpu.memory(tree({"proc/meminfo": "MemTotal: many\n"})) is None


def test_this_machine():
    logical = os.cpu_count() or 1
    assert 1 <= cpu.default_threads() <= cpu.usable_cores() <= logical
    assert 1 <= cpu.physical_cores() <= logical
    total, available = cpu.memory()
    assert 0 < available <= total
    held = bytearray(64 << 20)
    assert len(held) < cpu.peak_memory() < 64 * total


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity mask on this system")
def test_this_process_pinned_to_one_cpu():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert cpu.usable_cores() == 1
        assert cpu.default_threads() == 1
    finally:
        os.sched_setaffinity(0, before)
