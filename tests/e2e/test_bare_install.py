"""The wheel in fresh environments outside the tree: bare (no llama.cpp, onnxruntime, torch), and as a tool of uv.

Builds the wheel and fetches its dependencies with pip and uv: needs pip's index, as `make setup` does.
"""

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from helpers import EXAMPLE

from prlm_edge.models import find

ROOT = Path(__file__).parents[2]
ABSENT = ("llama_cpp", "onnxruntime", "tokenizers", "huggingface_hub", "gguf", "torch", "transformers")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy: building leaves folders behind, and reads those of earlier builds
    unwanted = (".venv*", ".git", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", "tests")
    shutil.copytree(ROOT, source, symlinks=True, ignore=shutil.ignore_patterns(*unwanted))
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(source)], check=True)
    return next(folder.glob("prlm_edge-*.whl"))


@pytest.fixture(scope="module")
def bare(wheel, tmp_path_factory):
    """`bare(*args)` runs the fresh environment's own `prlm-edge` (or `program`) in an empty folder."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder / "venv", with_pip=True)
    scripts = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    cwd = folder / "work"
    cwd.mkdir()
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PRLM_", "PYTHON")) and name != "VIRTUAL_ENV"
    }
    env |= {"PRLM_HOME": str(folder / "home"), "PATH": f"{scripts}{os.pathsep}{env['PATH']}"}

    def run(*args, program="prlm-edge", **kwargs):
        return subprocess.run([scripts / program, *args], cwd=cwd, env=env, capture_output=True, text=True, **kwargs)

    done = run("install", "-q", str(wheel), program="pip")
    assert done.returncode == 0, done.stderr
    return run


def test_the_wheel_holds_the_data_and_no_stray_package(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "prlm_edge/py.typed" in names
    assert "prlm_edge/models.toml" in names
    tasks = {path.name for path in (ROOT / "prlm_edge" / "tasks").glob("*.toml")}
    assert tasks
    assert {name.rpartition("/")[2] for name in names if name.startswith("prlm_edge/tasks/")} >= tasks
    assert "prlm_edge/train/__init__.py" in names
    assert "prlm_edge/export/__init__.py" in names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"prlm_edge"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    sources = {
        f"prlm_edge/{path.relative_to(ROOT / 'prlm_edge').as_posix()}" for path in (ROOT / "prlm_edge").rglob("*.py")
    }
    assert sources <= set(names)
    voices = {path.relative_to(ROOT).as_posix() for path in (ROOT / "prlm_edge" / "assets" / "voices").glob("*/*")}
    assert voices and voices <= set(names)
    assert wheel.stat().st_size <= 60_000_000  # with all voices and the reward model


def test_nothing_optional_came_along(bare):
    code = f"import importlib.util as u; print([m for m in {ABSENT} if u.find_spec(m)])"
    assert bare("-c", code, program="python").stdout == "[]\n"
    assert bare("check", program="pip").returncode == 0


def test_imports(bare):
    done = bare(
        "-c",
        "import prlm_edge, prlm_edge.train, prlm_edge.export; prlm_edge.Writer; print(prlm_edge.Profile)",
        program="python",
    )
    assert (done.returncode, done.stdout) == (0, "<class 'prlm_edge.profile.store.Profile'>\n"), done.stderr
    for name in ("train", "export", "tests"):
        assert "ModuleNotFoundError" in bare("-c", f"import {name}", program="python").stderr


def test_help_of_everything(bare):
    top = bare("--help")
    assert top.returncode == 0
    commands = top.stdout.partition("Commands:\n")[2].partition("\n\n")[0]
    for line in commands.splitlines():
        done = bare(line.split()[0], "--help")
        assert (done.returncode, done.stderr) == (0, ""), line


def test_a_profile_is_verified(bare):
    done = bare("profile", "verify", "--user", str(EXAMPLE))
    assert done.returncode == 0, done.stderr


def test_bm25_search(bare):
    done = bare("search", "--user", str(EXAMPLE), "--json", "sourdough")
    assert done.returncode == 0, done.stderr
    assert "sourdough" in done.stdout.lower()
    assert json.loads(done.stdout)


def test_generate_names_what_is_missing(bare, tmp_path):
    done = bare("generate", "--user", str(EXAMPLE), "title for my post on rye")
    assert (done.returncode, done.stdout) == (4, "")
    assert "prlm-edge model pull" in done.stderr
    model = tmp_path / "some.gguf"
    model.write_bytes(b"GGUF")
    done = bare("generate", "--user", str(EXAMPLE), "--model", str(model), "title for my post on rye")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.splitlines()[-1].strip().endswith('pip install "prlm-edge[gguf]"')


def test_dense_retrieval_names_what_is_missing(bare):
    done = bare("search", "--user", str(EXAMPLE), "--retriever", "dense", "rye")
    assert (done.returncode, done.stdout) == (4, "")
    assert 'pip install "prlm-edge[onnx]"' in done.stderr


def test_the_mending_command_can_be_run(bare):
    done = bare("install", "--dry-run", "prlm-edge[onnx]", program="pip")
    assert done.returncode == 0, done.stderr
    assert "Would install" in done.stdout
    assert "onnxruntime" in done.stdout


def test_doctor(bare):
    done = bare("doctor", "--json")
    assert done.returncode == 4, done.stderr
    found = json.loads(done.stdout)
    fixes = [check["fix"] for check in found["checks"] if check["needed"] and check["state"] == "missing"]
    assert found["generate"] is False
    assert list(dict.fromkeys(fixes)) == [
        'pip install "prlm-edge[local]"',
        f"prlm-edge model pull {find('default').name}",
    ]
    assert {check["name"]: check["state"] for check in found["checks"]}["numpy"] == "ok"


def test_uv_installs_pulls_and_writes_without_compiler_and_pip(wheel, tmp_path):
    """Installed as a tool, pulled, asked: ONNX Runtime runs what was fetched and converted."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv is None and not os.environ.get("CI"):
        pytest.skip("uv is not installed: make setup")
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PRLM_", "PYTHON", "VIRTUAL_ENV"))
    }
    folders = {"UV_TOOL_DIR": "tools", "UV_TOOL_BIN_DIR": "bin", "PRLM_HOME": "home"}
    env = kept | {name: str(tmp_path / folder) for name, folder in folders.items()}
    env |= {"CC": "/bin/false", "CXX": "/bin/false", "PATH": f"{tmp_path / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin"}

    def run(*argv):
        return subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    done = run(uv, "tool", "install", "--python", sys.executable, f"{wheel}[local]")
    assert done.returncode == 0, done.stderr
    code = "from importlib.util import find_spec; print([m for m in ('pip', 'llama_cpp', 'torch') if find_spec(m)])"
    assert run(tmp_path / "tools" / "prlm-edge" / "bin" / "python", "-c", code).stdout == "[]\n"
    program = tmp_path / "bin" / "prlm-edge"
    done = run(program, "model", "pull")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(".onnx") and "that ONNX Runtime runs" in done.stderr
    for more in ([], ["--base"], ["-n", "2"]):
        done = run(program, "generate", "--user", str(EXAMPLE), *more, "title for my post on winter sourdough")
        assert done.returncode == 0 and done.stdout.strip(), done.stderr
    done = run(program, "doctor", "--json")
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == 0 and checks["engine"]["text"].startswith("ONNX Runtime")
    assert checks["engine"]["fix"].endswith('"prlm-edge[gguf]"')
