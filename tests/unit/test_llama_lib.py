"""Loading llama.cpp's low-level module alone, beside applications that import llama_cpp themselves."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from prlm_edge.backends.llama import lib

pytest.importorskip("llama_cpp")

OURS = "from prlm_edge.backends.llama import lib as llama_lib; low = llama_lib.load()"
THEIRS = "import llama_cpp; assert llama_cpp.Llama and llama_cpp.llama_cpp.llama_print_system_info()"
SAME = "assert low is llama_cpp.llama_cpp and low._lib is llama_cpp.llama_cpp._lib"


@pytest.mark.parametrize("script", [f"{OURS}\n{THEIRS}\n{SAME}", f"{THEIRS}\n{OURS}\n{SAME}"])
def test_applications_may_import_llama_cpp_before_and_after(script: str) -> None:
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_only_the_low_level_module_is_loaded() -> None:
    script = f"{OURS}\nimport sys\nprint([m for m in ('llama_cpp', 'llama_cpp.llama', 'jinja2') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_guarded_callback_is_asked_now_and_then() -> None:
    asked: list[int] = []

    def call(number: int) -> bool:
        asked.append(number)
        if number > 2:
            raise ValueError("caught")
        return False

    rarely, always = lib.guarded(call, True, 3600.0), lib.guarded(call, True)
    assert [rarely(1), rarely(2), rarely(3)] == [False] * 3
    assert [always(2), always(3), always(4)] == [False, True, True]
    assert asked == [1, 2, 3]
    assert lib.guarded(call, True, 3600.0)(1) is True  # what was raised is still there
    with pytest.raises(ValueError, match="caught"):
        lib.raise_caught()


def test_two_threads_get_the_same() -> None:
    script = (
        "import threading\nfrom prlm_edge.backends.llama import lib as llama_lib\nfound = []\n"
        "threads = [threading.Thread(target=lambda: found.append(llama_lib.load())) for _ in range(8)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "assert len(found) == 8 and len(set(map(id, found))) == 1"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_a_library_elsewhere_is_run_and_told_from_the_packages_own(tmp_path: Path) -> None:
    """With LLAMA_CPP_LIB_PATH the package's own library need not even be there."""
    spec = importlib.util.find_spec("llama_cpp")
    assert spec is not None
    package = Path(str(spec.origin)).parent
    shutil.copytree(package, tmp_path / "site" / "llama_cpp", ignore=shutil.ignore_patterns("lib"))
    shutil.copytree(package / "lib", tmp_path / "lib")
    script = "from prlm_edge.backends.llama import lib; print(lib.build())"

    def build(**more: str) -> str:
        env = {key: value for key, value in os.environ.items() if key != "LLAMA_CPP_LIB_PATH"} | more
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=env)
        return done.stdout or done.stderr.strip().splitlines()[-1]

    own = build()
    elsewhere = {"LLAMA_CPP_LIB_PATH": str(tmp_path / "lib"), "PYTHONPATH": str(tmp_path / "site")}
    assert build(**elsewhere) == own  # a copy, times included
    with next((tmp_path / "lib").glob("*ggml-base*")).open("ab") as stream:
        stream.write(b"0" * 64)
    assert build(**elsewhere) != own
    assert build() == own
    assert "MissingError: llama.cpp's library can't be loaded" in build(LLAMA_CPP_LIB_PATH=str(tmp_path))
