"""No verb opens a socket or leaves a file outside of its own folders, in processes that know nothing of tests or CI."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from prlm_edge.cli.shared.table import VERBS

# Stands before libc's own functions, so that native code is seen too: notes every address and refuses it.
SHIM = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
static int noted(const char *what) {
  FILE *f = fopen(getenv("SOCKETS_SEEN"), "a");
  if (f) { fprintf(f, "%s\n", what); fclose(f); }
  errno = ENETUNREACH;
  return -1;
}
int connect(int s, const struct sockaddr *a, socklen_t n) {
  return a->sa_family == AF_UNIX ? (errno = ENOENT, -1) : noted("connect");
}
ssize_t sendto(int s, const void *b, size_t n, int f, const struct sockaddr *a, socklen_t m) { return noted("sendto"); }
int getaddrinfo(const char *h, const char *p, const struct addrinfo *i, struct addrinfo **r) {
  noted(h ? h : "?");
  return EAI_FAIL;
}
"""
ME = '{"id": "one", "title": "rye wins", "text": "Three flours and one starter."}\n'
ROW = (
    '{"user_id": "u", "query": {"id": "q", "text": "Three flours."}, "target": "rye wins", '
    '"profile": [{"id": "p", "title": "a loaf", "text": "Flour.", "date": "2024-01-01"}]}\n'
)
COMMANDS = {
    "generate": [
        "generate",
        "-u",
        "me.jsonl",
        "--best-of",
        "2",
        "--select",
        "reward",
        "--answer-tokens",
        "4",
        "a title",
    ],
    "accept": ["accept", "--list"],
    "style": ["style", "show", "-u", "me.jsonl"],
    "search": ["search", "-u", "me.jsonl", "-r", "dense", "rye"],
    "profile": ["profile", "stats", "-u", "me.jsonl"],
    "model": ["model", "list"],
    "task": ["task", "list"],
    "config": ["config", "show"],
    "cache": ["cache", "show"],
    "eval": ["eval", "run", "rows.jsonl", "--task", "title", "--set", "answer_tokens=4", "--out", "run"],
    "train": ["train", "recipes", "edge-cpu"],
    "export": ["export", "gguf", "nowhere"],
    "doctor": ["doctor"],
    "completion": ["completion", "bash"],
}


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not sys.platform.startswith("linux") or shutil.which("cc") is None:
        pytest.skip("needs Linux and a C compiler")
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.c").write_text(SHIM)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "shim.so", folder / "shim.c"], check=True)
    return folder / "shim.so"


def test_every_verb_is_tried() -> None:
    assert set(COMMANDS) == set(VERBS)


@pytest.mark.model
@pytest.mark.embedder
@pytest.mark.parametrize("verb", COMMANDS)
def test_nothing_leaves(verb: str, shim: Path, smollm2_path: Path, minilm_path: Path, tmp_path: Path) -> None:
    user, work = tmp_path / "user", tmp_path / "work"
    for folder in (user, work, tmp_path / "prlm" / "data", tmp_path / "tmp"):
        folder.mkdir(parents=True)
    (tmp_path / "prlm" / "data" / "models").symlink_to(smollm2_path.parents[1])
    (work / "me.jsonl").write_text(ME)
    (work / "rows.jsonl").write_text(ROW)
    seen = tmp_path / "seen"
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(user),
        "PRLM_HOME": str(tmp_path / "prlm"),
        "SOCKETS_SEEN": str(seen),
    }
    env |= {"LD_PRELOAD": str(shim), "TMPDIR": str(tmp_path / "tmp"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-B", "-m", "prlm_edge", *COMMANDS[verb]],
        cwd=work,
        env=env,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode in (0, 2) if verb in ("export", "doctor") else done.returncode == 0, done.stderr
    assert not seen.exists(), seen.read_text()
    assert [path.relative_to(user) for path in user.rglob("*")] == []
    assert {path.name for path in work.iterdir()} <= {"me.jsonl", "rows.jsonl", "run"}
    assert list((tmp_path / "tmp").iterdir()) == []
