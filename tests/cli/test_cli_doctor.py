"""`prlm-edge doctor`: every finding has a state and a remedy, and the exit code says whether generate can run."""

import json
import os
import re
import shlex
import subprocess
import sys
from importlib import metadata

import pytest
from helpers import install_model as install

from prlm_edge import cpu, models
from prlm_edge.cli.doctor import checks, system
from prlm_edge.models import catalog
from prlm_edge.settings import Settings

ITEM = '{"id": "1", "title": "Rye, slowly", "text": "A loaf."}\n'


@pytest.fixture
def report(cli, monkeypatch):
    """The report by check name; the packages are tried for real once, in `test_packages_for_real`."""
    monkeypatch.setattr(system, "check_engine", lambda found: [])
    monkeypatch.setattr(system, "check_packages", lambda found: [])

    def run(*args):
        code, out, _ = cli("doctor", "--json", *args)
        found = json.loads(out)
        return code, found, {check["name"]: check for check in found["checks"]}

    return run


def test_a_bare_home_lacks_the_model_and_says_how_to_get_it(report):
    code, found, checks = report()
    assert code == 4
    assert found["generate"] is False
    assert checks["model"]["state"] == "missing"
    assert checks["model"]["fix"] == f"prlm-edge model pull {models.find('default').name}"
    assert checks["embedder"]["state"] == "note"  # BM25 needs none
    assert checks["settings"]["state"] == checks["task"]["state"] == "ok"
    assert checks["profile"]["fix"] == "prlm-edge config set user me.jsonl"


def test_with_a_model_generate_can_run(report):
    install("small")
    code, found, checks = report()
    assert (code, found["generate"], checks["model"]["state"]) == (0, True, "ok")
    assert "hashes verified" in checks["model"]["text"]


def test_a_model_whose_bytes_changed_is_bad(report):
    path = install("small")
    path.write_bytes(b"GGUF bytez")  # the same size
    code, _, checks = report()
    assert code == 4
    assert "sha256" in checks["model"]["text"]
    assert checks["model"]["fix"] == "prlm-edge model pull smollm2-135m"


def test_a_local_file_that_is_no_gguf_is_bad(report, tmp_path, monkeypatch):
    (tmp_path / "x.gguf").write_bytes(b"PK\x03\x04")
    monkeypatch.setenv("PRLM_MODEL", str(tmp_path / "x.gguf"))
    code, _, checks = report()
    assert code == 4
    assert "not a GGUF file" in checks["model"]["text"]


def test_a_model_larger_than_memory_is_warned_about(report, monkeypatch):
    install("small")
    monkeypatch.setattr(cpu, "memory", lambda: (10, 5))
    code, _, checks = report()
    assert (code, checks["model"]["state"]) == (0, "warn")


def test_the_embedder_is_needed_for_dense_retrieval_only(report, monkeypatch):
    install("small")
    monkeypatch.setenv("PRLM_RETRIEVER", "hybrid")
    code, _, checks = report()
    assert (code, checks["embedder"]["state"]) == (4, "missing")
    assert checks["embedder"]["fix"] == "prlm-edge model pull minilm"
    install("minilm")
    assert report()[0] == 0


def test_a_server_needs_no_local_model(report, monkeypatch):
    monkeypatch.setenv("PRLM_BASE_URL", "http://127.0.0.1:1/v1")
    code, _, checks = report()
    assert code == 0
    assert "model" not in checks
    assert "not contacted" in checks["server"]["text"]


def test_broken_settings_are_a_finding_and_not_the_end(report, home):
    install("small")
    (home / "config").mkdir(parents=True, exist_ok=True)
    (home / "config" / "config.toml").write_text("k = 0\n")
    code, _, checks = report()
    assert code == 4
    assert "out of range" in checks["settings"]["text"]
    assert "model" in checks
    assert "data" in checks


@pytest.mark.parametrize(
    ("env", "name", "text"),
    [
        ({"PRLM_TASK": "titel"}, "task", "no task 'titel'"),
        ({"PRLM_TASKS_DIR": "absent"}, "task", "absent is not a folder"),
        ({"PRLM_USER": "absent.jsonl"}, "profile", "absent.jsonl"),
    ],
)
def test_what_the_settings_name_must_be_there(report, monkeypatch, env, name, text):
    install("small")
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    code, _, checks = report()
    assert code == 4
    assert checks[name]["state"] == "bad"
    assert text in checks[name]["text"]
    assert checks[name]["fix"]


def test_the_profile_is_read(report, cli, tmp_path, monkeypatch):
    install("small")
    monkeypatch.setenv("PRLM_USER", "my me.jsonl")
    (tmp_path / "my me.jsonl").write_text(ITEM)
    assert report()[2]["profile"]["text"] == "my me.jsonl: 1 item"
    (tmp_path / "my me.jsonl").write_text(ITEM + "{torn\n")
    code, _, checks = report()
    assert (code, checks["profile"]["state"]) == (0, "warn")
    assert checks["profile"]["text"].endswith("1 unreadable line")
    assert checks["profile"]["fix"] == "prlm-edge profile repair --user 'my me.jsonl'"
    assert cli(*shlex.split(checks["profile"]["fix"])[1:]).code == 0
    assert report()[2]["profile"]["state"] == "ok"


def test_more_threads_than_cores_is_warned_about(report, monkeypatch):
    monkeypatch.setenv("PRLM_THREADS", "4000")
    checks = report()[2]
    assert checks["threads"]["state"] == "warn"
    monkeypatch.setenv("PRLM_THREADS", "1")
    assert report()[2]["threads"]["text"] == "1 for generate"
    monkeypatch.delenv("PRLM_THREADS")
    assert report()[2]["threads"]["text"] == (
        f"{cpu.default_threads()} to read prompts and to decode; small models decode on 1"
    )


@pytest.mark.skipif(os.name != "posix", reason="POSIX modes")
def test_folders_that_others_may_look_into_are_warned_about(report, home):
    (home / "data").mkdir(parents=True, mode=0o700)
    assert report()[2]["data"]["state"] == "ok"
    (home / "data").chmod(0o755)
    check = report()[2]["data"]
    assert check["state"] == "warn"
    subprocess.run(check["fix"], shell=True, check=True)
    assert report()[2]["data"]["state"] == "ok"


def test_a_place_that_cannot_be_a_folder_is_bad(report, tmp_path, monkeypatch):
    (tmp_path / "blocker").write_text("")
    monkeypatch.setenv("PRLM_HOME", str(tmp_path / "blocker"))
    assert report()[2]["cache"]["state"] == "bad"


def test_what_may_not_even_be_looked_at_is_a_finding(report, monkeypatch):
    def forbidden(*_, **__):
        raise PermissionError(13, "Permission denied", "/locked")

    monkeypatch.setattr(checks, "_folder", forbidden)
    monkeypatch.setattr(models, "resolve", forbidden)
    _, _, found = report()
    assert found["data"]["text"] == found["model"]["text"] == "/locked: Permission denied"
    assert found["model"]["needed"]


@pytest.mark.skipif(os.name != "posix", reason="POSIX modes")
def test_a_key_that_others_can_read_is_warned_about_and_never_shown(report, home):
    file = home / "config" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text("api_key = 'hunter2'\n")
    file.chmod(0o644)
    _, found, checks = report()
    assert checks["api_key"]["fix"] == f"chmod 600 {file}"
    assert "hunter2" not in json.dumps(found)


def test_text_output_ends_with_what_blocks(cli, monkeypatch):
    monkeypatch.setattr(system, "check_engine", lambda found: [])
    monkeypatch.setattr(system, "check_packages", lambda found: [])
    code, out, _ = cli("doctor")
    assert code == 4
    headings = [line for line in out.splitlines() if line and not line.startswith(" ")]
    assert headings[1:5] == ["Machine", "Models", "Settings", "Folders"]
    command = f"prlm-edge model pull {models.find('default').name}"
    assert out.endswith(f"generate can't run yet. What mends it:\n  {command}\n")


def test_packages_for_real():
    found = {check.name: check for check in system.check_packages(Settings())}
    assert list(found) == [package.name for package in system.PACKAGES]
    for name, check in found.items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            assert check.state in ("missing", "note")
            assert "pip install" in check.fix
        else:
            assert check.text.startswith(version)
            assert check.state in ("ok", "warn"), check


def try_package(code, **package):
    defaults = {"name": "numpy", "extra": "onnx", "purpose": "something", "proof": code}
    found = system.Package(**{**defaults, **package})
    return system._package(found, system._start(code), needed=True)


def test_a_package_that_does_not_load_says_why():
    check = try_package("raise ImportError('libgomp.so.1: cannot open shared object file')")
    assert check.state == "bad"
    assert check.blocks
    assert "libgomp.so.1" in check.text
    assert re.search(r'pip install "numpy==[\d.]+" --force-reinstall', check.fix)


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_a_package_built_for_another_cpu_does_not_take_doctor_with_it():
    check = try_package("import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    assert check.state == "bad"
    assert "built for another CPU" in check.text


def test_a_package_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(system, "TRY_TIMEOUT_S", 0.2)
    assert "no answer" in try_package("import time; time.sleep(60)").text


def test_another_version_than_the_pinned_one_is_warned_about(monkeypatch):
    monkeypatch.setattr(system, "_version", lambda name: "0.0.1")
    check = try_package("pass", name="onnxruntime")
    assert check.state == "warn"
    assert "made for 1.32.0" in check.text
    assert '"onnxruntime==1.32.0"' in check.fix


def test_a_missing_package_names_its_extra():
    package = system.PACKAGES[0]
    check = system._package(package, None, needed=True)
    assert (check.state, check.blocks) == ("missing", True)
    assert check.fix.endswith('pip install "prlm-edge[gguf]"')
    assert system._package(package, None, needed=False).state == "note"


def test_llama_cpp_built_without_what_the_cpu_has(monkeypatch):
    monkeypatch.setattr(cpu, "cpu_flags", lambda: ("avx2", "fma"))
    monkeypatch.setattr(system, "_pinned", lambda name: None)
    monkeypatch.setattr(system, "_version", lambda name: "1")
    slow = try_package("print('CPU : SSE3 = 1 | FMA = 1 |')", name="llama-cpp-python")
    assert slow.state == "warn"
    assert "without AVX2" in slow.text
    assert try_package("print('CPU : AVX2 = 1 | FMA = 1 |')", name="llama-cpp-python").state == "ok"


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        (Settings(), {"llama-cpp-python", "numpy"}),
        (Settings(retriever="none"), {"llama-cpp-python"}),
        (Settings(retriever="recency", base_url="http://x"), set()),
        (Settings(retriever="dense"), {"llama-cpp-python", "onnxruntime", "tokenizers", "numpy"}),
        (Settings(retriever="none", base_url="http://x", select="reward"), set()),
        (
            Settings(retriever="none", base_url="http://x", select="reward", best_of=8),
            {"onnxruntime", "tokenizers", "numpy"},
        ),
    ],
)
def test_what_is_needed_depends_on_the_settings(settings, needed):
    assert system._needed(settings) == needed


def test_the_install_command_is_for_this_interpreter(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert system.pip_command("x").startswith(sys.executable)
    assert checks.Check("", "", "bad", "").blocks is False


@pytest.mark.parametrize(
    ("engine", "installed", "state", "said", "fix"),
    [
        ("auto", {"llama_cpp", "onnxruntime"}, "ok", "llama.cpp (gguf)", ""),
        ("auto", {"onnxruntime"}, "note", "ONNX Runtime (onnx): llama-cpp-python", "prlm-edge[gguf]"),
        ("onnx", {"llama_cpp", "onnxruntime"}, "ok", "ONNX Runtime (onnx): the setting", ""),
        ("auto", set(), "missing", "none", "prlm-edge[local]"),
        ("onnx", {"llama_cpp"}, "missing", "it is not installed", "prlm-edge[local]"),
    ],
)
def test_the_engine_in_use_and_how_to_get_the_other(monkeypatch, engine, installed, state, said, fix):
    def find_spec(name):
        return object() if name in installed else None

    monkeypatch.setattr("prlm_edge.models.engine.find_spec", find_spec)
    monkeypatch.setattr(system.importlib.util, "find_spec", find_spec)
    (check,) = system.check_engine(Settings(engine=engine))
    assert (check.state, check.blocks) == (state, state == "missing")
    assert said in check.text and fix in check.fix


@pytest.mark.parametrize(
    ("pulled", "env", "memory_gb", "text", "fix"),
    [
        ((), {}, 8, "is the default, and no model is pulled", ""),
        (("qwen3-0.6b",), {}, 8, "auto: qwen3-0.6b is the only model that is pulled", ""),
        (
            ("small",),
            {},
            8,
            "qwen2.5-coder-0.5b writes better: it would be 491 MB to pull",
            "model pull qwen2.5-coder-0.5b",
        ),
        (("small",), {}, 1, "qwen2.5-coder-0.5b writes better: it needs 0.8 GB of memory, more than 50% of 1.0 GB", ""),
        (("small", "medium"), {}, 8, "auto: qwen2.5-coder-0.5b is the best pulled voice that fits this machine", ""),
        (("small", "medium"), {}, 1, "auto: smollm2-135m is the best pulled voice", ""),
        (("small", "medium"), {}, 0.1, "auto: smollm2-135m is the smallest of the pulled voices, and none fits", ""),
        (("small", "medium"), {"PRLM_MODEL": "small"}, 8, "small is set (PRLM_MODEL)", "unset PRLM_MODEL"),
    ],
)
def test_which_model_is_in_use_and_why(report, monkeypatch, tmp_path, pulled, env, memory_gb, text, fix):
    for name in ("smollm2-135m", "qwen2.5-coder-0.5b"):
        (tmp_path / "voices" / name).mkdir(parents=True)
        (tmp_path / "voices" / name / "adapter.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(catalog, "VOICES", tmp_path / "voices")
    monkeypatch.setattr(cpu, "memory", lambda: (int(memory_gb * 1e9), int(memory_gb * 1e9)))
    monkeypatch.setattr(cpu, "default_threads", lambda: 2)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    for name in pulled:
        install(name)
    choice = report()[2]["choice"]
    assert text in choice["text"]
    assert choice["fix"].endswith(fix) and bool(fix) == bool(choice["fix"])
