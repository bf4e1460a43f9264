"""Blind judging: which pairs, which side, votes that last, and a server that answers nobody else."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from evaluation import scored_run

from prlm_edge.errors import PrlmError, UsageError
from prlm_edge.evaluate.ab import AnswerPair, Votes, make_server, pairs
from prlm_edge.evaluate.ab.server import Server
from prlm_edge.evaluate.compare import side

PAIRS = [AnswerPair(f"r{i}", f"u{i % 3}", "q", (), f"a{i}", f"b{i}", bool(i % 2)) for i in range(6)]


def votes(tmp_path: Path, chosen: list[AnswerPair] = PAIRS, a: str = "A", b: str = "B") -> Votes:
    return Votes(tmp_path / "votes.jsonl", a, b, chosen)


def test_pairs_are_those_that_both_answered_in_a_seeded_order(tmp_path: Path) -> None:
    run = scored_run(tmp_path / "run")
    a, b = side(f"{run.path}:zero-shot"), side(f"{run.path}:k=4")
    found = pairs(a, b)
    assert {pair.row for pair in found} == {f"u{i}/q0" for i in range(6)}
    assert found == pairs(a, b)
    assert [pair.row for pair in pairs(a, b, seed=1)] != [pair.row for pair in found]
    assert pairs(a, b, limit=2) == found[:2]
    sides = {pair.a_left for seed in range(8) for pair in pairs(a, b, seed=seed)}
    assert sides == {True, False}
    assert found[0].past  # the items that the prompt showed
    shown = found[0].shown()
    assert {shown["left"], shown["right"]} == {found[0].a, found[0].b}
    assert not {"a", "b", "a_left", "condition"} & set(shown)


def test_votes_are_of_conditions_not_of_sides(tmp_path: Path) -> None:
    found = votes(tmp_path)
    for pair in PAIRS[:4]:
        found.vote(pair.row, "right" if pair.a_left else "left")  # always B
    found.vote("r4", "tie")
    result = found.result()
    assert (result.wins_a, result.ties, result.wins_b, result.n) == (0, 1, 4, 5)
    assert result.win_rate == pytest.approx((1 + 0.75 + 1) / 3)  # by user: 1, (1 + .5) / 2, 1
    assert result.low <= result.win_rate <= result.high


def test_they_last_can_be_taken_back_and_go_on(tmp_path: Path) -> None:
    first = votes(tmp_path)
    first.vote("r0", "left", "shorter")
    first.vote("r1", "skip")
    first.vote("r2", "right")
    first.undo()
    path = tmp_path / "votes.jsonl"
    path.write_bytes(path.read_bytes() + b'{"row": "r5", "vo')  # killed while writing
    again = votes(tmp_path)
    assert again.done == 2
    assert again.next() == PAIRS[2]
    assert again.result().n == 1  # a skipped pair is no vote
    assert path.stat().st_mode & 0o077 == 0
    assert json.loads(path.read_text().splitlines()[1])["reason"] == "shorter"


def test_after_a_torn_line_votes_go_on_in_a_sound_file(tmp_path: Path) -> None:
    votes(tmp_path).vote("r0", "left")
    path = tmp_path / "votes.jsonl"
    path.write_bytes(path.read_bytes() + b'{"row": "r1", "vo')
    votes(tmp_path).vote("r2", "left")
    assert votes(tmp_path).done == 2


def test_equal_answers_are_not_shown(tmp_path: Path) -> None:
    same = AnswerPair("x", "u", "q", (), "one", "one", True)
    found = votes(tmp_path, [same, PAIRS[0]])
    assert (len(found.pairs), found.result().equal) == (1, 1)


@pytest.mark.parametrize("content", ["", "hello\n", '{"a": "A", "b": "C"}\n', "[]\n", '{"a": "A", "b": "B"}\n{}\n'])
def test_other_files_are_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / "votes.jsonl").write_text(content)
    with pytest.raises(PrlmError):
        votes(tmp_path)
    assert (tmp_path / "votes.jsonl").read_text() == content


def test_no_vote_on_what_is_not_there(tmp_path: Path) -> None:
    for row, choice in (("none", "left"), ("r0", "both")):
        with pytest.raises(UsageError):
            votes(tmp_path).vote(row, choice)
    assert not (tmp_path / "votes.jsonl").exists()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with make_server(votes(tmp_path)) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield server
        server.shutdown()


def ask(
    server: Server, method: str, what: str, body: Any = None, headers: dict[str, str] | None = None, token: str = ""
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    usual = {"Content-Type": "application/json"} if data is not None else {}
    connection.request(method, f"/{token or server.token}/{what}", data, {**usual, **(headers or {})})
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_a_sitting(server: Server) -> None:
    status, page = ask(server, "GET", "")
    assert status == 200
    assert b"NONCE" not in page
    for i in range(6):
        state = json.loads(ask(server, "GET", "state")[1])
        assert (state["done"], state["total"], state["pair"]["row"]) == (i, 6, f"r{i}")
        assert "result" not in state
        assert ask(server, "POST", "vote", {"row": f"r{i}", "choice": "left"})[0] == 200
    end = json.loads(ask(server, "GET", "state")[1])
    assert (end["pair"], end["result"]["n"], end["result"]["a"]) == (None, 6, "A")
    assert json.loads(ask(server, "POST", "undo", {})[1])["pair"]["row"] == "r5"


def test_nobody_else_gets_an_answer(server: Server) -> None:
    vote = {"row": "r0", "choice": "left"}
    assert ask(server, "GET", "", token="guess")[0] == 404
    assert ask(server, "GET", "state", headers={"Host": "evil.example"})[0] == 404
    assert ask(server, "POST", "vote", vote, headers={"Host": "evil.example"})[0] == 404
    assert ask(server, "POST", "vote", vote, headers={"Content-Type": "text/plain"})[0] == 400
    assert ask(server, "POST", "vote", b"x" * 70_000)[0] == 400
    assert ask(server, "POST", "vote", b"[1]")[0] == 400
    assert ask(server, "POST", "vote", b"[" * 60_000)[0] == 400
    assert ask(server, "POST", "vote", {"row": "none", "choice": "left"})[0] == 409
    assert ask(server, "GET", "../../etc/passwd")[0] == 404
    assert server.votes.done == 0
    assert server.server_address[0] == "127.0.0.1"


def test_a_taken_port_is_a_line(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=str(server.server_port)):
        make_server(votes(tmp_path), server.server_port)
