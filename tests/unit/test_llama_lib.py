"""Loading llama.cpp's low-level module alone, beside applications that import llama_cpp themselves."""

from __future__ import annotations

import subprocess
import sys

import pytest

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


def test_two_threads_get_the_same() -> None:
    script = (
        "import threading\nfrom prlm_edge.backends.llama import lib as llama_lib\nfound = []\n"
        "threads = [threading.Thread(target=lambda: found.append(llama_lib.load())) for _ in range(8)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "assert len(found) == 8 and len(set(map(id, found))) == 1"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
