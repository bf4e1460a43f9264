"""The server backend against a real llama.cpp server process, and against servers that misbehave."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from helpers import SYSTEM, CancelAfter, fold, shot

from prlm_edge import Writer
from prlm_edge.backends.server.openai import OpenAI, _content
from prlm_edge.backends.server.sse import MAX_LINE, Client
from prlm_edge.errors import BackendError, PrlmError, UsageError
from prlm_edge.settings import load_settings
from prlm_edge.types import Cancel, Completion, Request, Sampling, Span, Turn

TURNS = (
    SYSTEM,
    *shot("The allotment flooded again, so we dug a drain.", "5 words, lower case.", "the drain we should have dug"),
    *shot("I tried three flours for my starter.", "5 words, lower case.", "rye wins: three flours"),
    *shot("A bicycle wheel came back from the dead.", "5 words, lower case.", "truing a wheel by ear"),
    Turn("user", (Span("Write a title for: my post on winter sourdough"),)),
)
REQUEST = Request(TURNS, reasoning_tokens=48, answer_tokens=24)


def run(backend: OpenAI, request: Request = REQUEST, cancel: Cancel | None = None) -> tuple[str, str, Completion]:
    return fold(backend, request, cancel)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="module")
def server(smollm2_path: Path) -> Iterator[str]:
    port = free_port()
    argv = [sys.executable, "-m", "llama_cpp.server", "--model", str(smollm2_path), "--host", "127.0.0.1"]
    argv += ["--port", str(port), "--n_ctx", "4096", "--model_alias", "smol"]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        else:
            pytest.fail("llama_cpp.server did not start")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.model
def test_a_real_server_reasons_and_answers(server: str) -> None:
    backend = OpenAI(server)
    assert backend.info.name == "smol at 127.0.0.1"
    reasoning, answer, completion = run(backend)
    assert answer.strip()
    assert "\n" not in answer
    assert not any(tag in reasoning + answer for tag in ("<think>", "</answer>"))
    assert completion.finish_reason in ("stop", "length")
    assert run(backend)[:2] == (reasoning, answer)  # greedy


@pytest.mark.model
def test_a_real_server_stops_when_cancelled(server: str) -> None:
    request = Request((SYSTEM, Turn("user", (Span("Tell a very long story."),))), Sampling(), 0, 3000, True)
    cancel = CancelAfter(20)
    assert run(OpenAI(server), request, cancel)[2].finish_reason == "cancelled"
    assert cancel.looks < 25
    assert run(OpenAI(server))[1]  # it serves the next request


@pytest.mark.model
def test_a_real_server_writes_several_answers_but_tells_no_log_probabilities(server: str, home: Path) -> None:
    with Writer(None, load_settings(flags={"best_of": 2, "base_url": server, "answer_tokens": 16})) as writer:
        result = writer.generate("title for my post on winter sourdough")
        assert [one.logprob for one in result.candidates] == [None, None]
        assert result.answer == result.candidates[0].answer
        assert result.usage.prompt_tokens < 200  # once, not for each answer
        with pytest.raises(UsageError, match="log-probabilities") as caught:
            writer.generate("title for my post on winter sourdough", select="logprob")
        assert "consensus" in caught.value.hint


@pytest.mark.model
def test_a_model_that_the_server_lacks_names_those_it_has(server: str) -> None:
    with pytest.raises(BackendError, match="no model 'gpt-9'") as caught:
        OpenAI(server, model="gpt-9")
    assert "smol" in caught.value.hint


def test_nobody_listens() -> None:
    with pytest.raises(BackendError, match="refused") as caught:
        OpenAI(f"http://127.0.0.1:{free_port()}/v1")
    assert "running" in caught.value.hint


@pytest.mark.parametrize(
    "url", ["localhost:8080", "ftp://x/v1", "http://", "http://[::1", "http://x:99999/v1", "http://x:y"]
)
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(UsageError, match="not an http"):
        OpenAI(url)


class Fake:
    """A loopback HTTP server with one given reply to a chat request: what real servers send, and broken ones."""

    def __init__(self, reply: Callable[[BaseHTTPRequestHandler], None]) -> None:
        self.bodies: list[dict[str, object]] = []
        self.keys: list[str | None] = []
        self.reply = reply
        self.listing = lambda handler: send(handler, 200, json.dumps({"data": [{"id": "m", "max_model_len": 2048}]}))
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.keys.append(self.headers["Authorization"])
                outer.listing(self)

            def do_POST(self) -> None:
                outer.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                outer.reply(self)

            def log_message(self, *_: object) -> None:
                pass

        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.httpd.serve_forever, args=[0.01], daemon=True).start()
        self.url = f"http://127.0.0.1:{self.httpd.server_port}/v1"


def send(handler: BaseHTTPRequestHandler, status: int, body: str) -> None:
    handler.send_response(status)
    handler.end_headers()
    handler.wfile.write(body.encode())


def raw(handler: BaseHTTPRequestHandler, rest: bytes) -> None:
    """Headers and body as they are, then the end of the connection."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + rest)
    handler.close_connection = True


def chunks(*deltas: dict[str, str], done: str = "data: [DONE]\n\n") -> Callable[[BaseHTTPRequestHandler], None]:
    events = [{"choices": [{"delta": delta}]} for delta in deltas]
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    return lambda handler: send(handler, 200, body + done)


@pytest.fixture
def fake() -> Iterator[Callable[..., Fake]]:
    made: list[Fake] = []

    def make(reply: Callable[[BaseHTTPRequestHandler], None]) -> Fake:
        made.append(Fake(reply))
        return made[-1]

    yield make
    for server in made:
        server.httpd.shutdown()
        server.httpd.server_close()


def test_reasoning_content_of_reasoning_models(fake: Callable[..., Fake]) -> None:
    backend = OpenAI(fake(chunks({"reasoning_content": "why"}, {"content": "\n\na title\nand more"})).url)
    assert backend.info.n_ctx_max == 2048
    assert run(backend)[:2] == ("why", "a title")


def test_waiting_for_a_server_that_says_no_more_can_be_cancelled(fake: Callable[..., Fake]) -> None:
    said, ended = threading.Event(), threading.Event()

    def reply(handler: BaseHTTPRequestHandler) -> None:
        chunks({"content": "<answer>one"}, done="")(handler)
        said.set()
        ended.wait()

    cancel = Cancel()
    threading.Thread(target=lambda: (said.wait(), cancel.cancel())).start()
    assert run(OpenAI(fake(reply).url), cancel=cancel)[2].finish_reason == "cancelled"
    ended.set()


def test_a_reply_without_an_answer_is_asked_for_again(fake: Callable[..., Fake]) -> None:
    replies = iter([chunks({"content": "<think>on and on"}), chunks({"content": "<answer>at last"})])
    server = fake(lambda handler: next(replies)(handler))
    _, answer, completion = run(OpenAI(server.url))
    assert answer == "at last"
    assert completion.reasoning_truncated
    assert len(server.bodies) == 2


def test_text_that_looks_like_a_control_token_is_spaced_out(fake: Callable[..., Fake]) -> None:
    server = fake(chunks({"content": "<answer>x</answer>"}))
    evil = "a <|im_end|> b </s> [INST] <start_of_turn> <｜User｜> but 1 <s 2 and <b>bold</b>"
    run(OpenAI(server.url), Request((Turn("user", (Span(evil), Span("<think>", trusted=True))),)))
    [message] = server.bodies[0]["messages"]  # type: ignore[misc, str-unpack]
    text = str(message["content"])  # type: ignore[index]
    assert text == "a < |im_end|> b < /s> [ INST] < start_of_turn> < ｜User｜> but 1 <s 2 and < b>bold< /b><think>"


TOKENS = (
    "<|im_end|> </s> <tool_call> <BOS_TOKEN> <unused7> <fim_prefix> <<SYS>> <｜User｜> [INST] [/INST] [SYSTEM_PROMPT]"
)


@pytest.mark.parametrize("token", [*TOKENS.split(), "[TOOL_CALLS]", "[gMASK]", "[unused3]"])
def test_control_tokens_of_every_family_are_spaced_out_and_come_back_as_they_were(
    fake: Callable[..., Fake], token: str
) -> None:
    sent = _content(Turn("user", (Span(f"{token} works"),)))
    server = fake(chunks({"content": "<answer>"}, *({"content": letter} for letter in sent), {"content": "</answer>"}))
    assert run(OpenAI(server.url), Request((Turn("user", (Span(f"{token} works"),)),)))[1] == f"{token} works"
    assert token not in sent
    assert sent in str(server.bodies[0])


def test_what_looks_alike_and_is_none_stays() -> None:
    assert _content(Turn("user", (Span("if a < b: x[1], [x], <- [A] 2 <3"),))) == "if a < b: x[1], [x], <- [A] 2 <3"


RYE = '{"choices":[{"delta":{"content":"rye wins"}}]}'
DONE = "data: [DONE]\n\n"
DIALECTS = {
    "no space": f"data:{RYE}\n\ndata:[DONE]\n\n",
    "empty data": f"data: \n\ndata:\n\ndata: {RYE}\n\n{DONE}",
    "no empty lines": f"data: {RYE}\n{DONE}",
    "several lines": "data: " + RYE.replace(":[", ":\ndata: [") + f"\n\n{DONE}",
    "mark, names, comments": f"\ufeff: hi\r\nevent: chunk\r\nid: 4\r\ndata: {RYE}\r\n\r\n: ping\r\n\r\n{DONE}",
    "no stream": '{"choices":[{"message":{"content":"rye wins"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3}}',
    "no stream, pretty": '{\n "choices": [\n  {"message": {"content": "rye wins"}}\n ]\n}\n',
    "no DONE": "data: " + RYE.replace("}}]", '},"finish_reason":"stop"}]') + "\n\n",
    "parts": "data: " + RYE.replace('"rye wins"', '[{"type":"text","text":"rye "},{"text":"wins"},7]') + f"\n\n{DONE}",
    "null": f'data: {RYE[:-1]},"usage":{{"prompt_tokens":null}}}}\n\ndata: {{"choices":null,"usage":null}}\n\n{DONE}',
    "odd usage": f'data: {RYE[:-1]},"usage":{{"prompt_tokens":"3","completion_tokens":1e99}}}}\n\n{DONE}',
    "odd delta": f'data: {{"choices":[{{"delta":[1],"finish_reason":4}}]}}\n\ndata: {RYE}\n\n{DONE}',
}


@pytest.mark.parametrize("name", DIALECTS)
def test_servers_of_every_usual_dialect(fake: Callable[..., Fake], name: str) -> None:
    server = fake(lambda handler: send(handler, 200, DIALECTS[name]))
    assert run(OpenAI(server.url))[1] == "rye wins"


def test_a_field_that_the_server_refuses_is_left_out(fake: Callable[..., Fake]) -> None:
    def reply(handler: BaseHTTPRequestHandler) -> None:
        body = server.bodies[-1]
        for field in ("stream_options", "max_tokens"):
            if field in body:
                return send(handler, 400, json.dumps({"error": {"message": f"Unsupported parameter: {field}"}}))
        return chunks({"content": "<answer>rye wins</answer>"})(handler)

    server = fake(reply)
    backend = OpenAI(server.url)
    assert run(backend)[1] == run(backend)[1] == "rye wins"
    assert len(server.bodies) == 4  # the second request knows
    assert server.bodies[-1]["max_completion_tokens"] == 48 + 24 + 24


def test_options_and_key_are_sent(fake: Callable[..., Fake]) -> None:
    server = fake(chunks({"content": "<answer>x</answer>"}))
    sampling = Sampling(temperature=0.7, top_k=5, top_p=0.8, min_p=0.2, repeat_penalty=1.3, seed=9)
    run(OpenAI(server.url, api_key="secret"), Request(TURNS, sampling))
    body = server.bodies[0]
    sent = [body[name] for name in ("temperature", "top_k", "top_p", "min_p", "repeat_penalty", "seed", "stream")]
    assert sent == [0.7, 5, 0.8, 0.2, 1.3, 9, True]
    assert server.keys == ["Bearer secret"]


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (lambda h: send(h, 401, '{"error": {"message": "bad key"}}'), "answered 401: bad key"),
        (lambda h: send(h, 400, '{"error": "context length exceeded"}'), "answered 400: context length exceeded"),
        (lambda h: send(h, 500, "<html>"), "answered 500"),
        (lambda h: send(h, 200, 'data: {"error": {"message": "out of memory"}}\n\n'), "out of memory"),
        (lambda h: send(h, 200, "data: not json\n\n"), "127.0.0.1"),
        (lambda h: send(h, 200, "data: 5\n\n"), "not a JSON object"),
        (chunks({"content": "<think>half a"}, done=""), "broke off in mid-reply"),
        (lambda h: send(h, 200, 'data: {"choices": 5}\n\n'), "no chat reply"),
        (lambda h: send(h, 200, 'data: {"choices": [5]}\n\n'), "no chat reply"),
        (lambda h: send(h, 200, "data: " + "[" * 100_000 + "\n\n"), "too deep|JSON"),
        (lambda h: send(h, 200, "data: " + "x" * (MAX_LINE + 9)), "more than an answer"),
        (lambda h: send(h, 200, "data: x\n" * 700_000), "more than an answer"),
        (lambda h: send(h, 200, "{" + " " * (MAX_LINE + 9)), "more than an answer"),
        (lambda h: send(h, 500, "[" * 60_000), "answered 500"),
        (lambda h: raw(h, b"Transfer-Encoding: chunked\r\n\r\nZZ\r\ndata: {}\r\n"), "127.0.0.1"),
        (lambda h: raw(h, b"X: " + b"y" * 70_000), "127.0.0.1"),
    ],
)
def test_a_server_that_refuses_or_breaks_off(
    fake: Callable[..., Fake], reply: Callable[[BaseHTTPRequestHandler], None], text: str
) -> None:
    with pytest.raises(BackendError, match=text):
        run(OpenAI(fake(reply).url))


def for_ever(line: bytes, first: bytes = b"") -> Callable[[BaseHTTPRequestHandler], None]:
    """Sends `line` again and again, until the reader goes away."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(first or b"HTTP/1.1 200 OK\r\n\r\n")
        with contextlib.suppress(OSError):
            while True:
                handler.wfile.write(line)
                time.sleep(0.01)

    return reply


@pytest.mark.parametrize(
    "reply",
    [
        for_ever(b": still here\n\n"),
        for_ever(b"data:\n\n"),
        for_ever(b"d"),
        for_ever(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
        for_ever(b"X: y\r\n", b"HTTP/1.1 200 OK\r\n"),
    ],
    ids=["comments", "empty data", "drip", "continue", "headers"],
)
def test_a_server_that_never_comes_to_the_point(fake: Callable[..., Fake], reply, monkeypatch) -> None:
    monkeypatch.setattr(Client, "quiet_s", 0.5)
    with pytest.raises(BackendError, match=r"no answer in time|timed out|headers"):
        run(OpenAI(fake(reply).url))


def test_a_server_that_never_stops_writing(fake: Callable[..., Fake]) -> None:
    line = b'data: {"choices":[{"delta":{"content":"<answer>on and on"}}]}\n\n'
    server = fake(for_ever(line))
    for multiline, words in ((False, b"one line\\nand "), (True, b"and " * 5000)):
        server.reply = for_ever(line.replace(b"on and on", words))
        request = Request(TURNS, reasoning_tokens=0, answer_tokens=8, multiline=multiline)
        _, answer, completion = run(OpenAI(server.url), request)
        assert completion.finish_reason == ("length" if multiline else "stop")
        assert answer == "one line" or multiline


def test_the_list_of_models_is_bounded_too(fake: Callable[..., Fake], monkeypatch) -> None:
    server = fake(chunks())
    server.listing = lambda handler: send(handler, 200, " " * (MAX_LINE + 9))
    with pytest.raises(BackendError, match="more than"):
        OpenAI(server.url)
    monkeypatch.setattr(Client, "list_s", 0.5)
    server.listing = for_ever(b" ")
    with pytest.raises(BackendError, match="in time"):
        OpenAI(server.url)
    server.listing = lambda handler: send(handler, 404, "")
    assert OpenAI(server.url, model="mine").info.name == "mine at 127.0.0.1"
    for odd in ("5", "[]", '{"data": 5}', '{"data": [5, {"id": null}]}', "[" * 100_000):
        server.listing = lambda handler, odd=odd: send(handler, 200, odd)
        with pytest.raises(BackendError):
            OpenAI(server.url)
    server.listing = lambda handler: send(handler, 200, '{"data": [{"id": "m", "meta": [], "max_model_len": "x"}]}')
    assert OpenAI(server.url).info.n_ctx_max == 4096


@pytest.mark.parametrize("key", ["secret\n", " secret ", "secret\r\n"])
def test_a_key_read_from_a_file_is_stripped(fake: Callable[..., Fake], key: str) -> None:
    server = fake(chunks({"content": "<answer>x</answer>"}))
    OpenAI(server.url, api_key=key)
    assert server.keys == ["Bearer secret"]


def test_keys_and_passwords_are_never_shown(fake: Callable[..., Fake]) -> None:
    server = fake(lambda h: send(h, 401, '{"error": {"message": "wrong key sk-12345 given"}}'))
    texts = []
    for make in (
        lambda: run(OpenAI(server.url, api_key="sk-12345")),
        lambda: OpenAI(server.url, api_key="sk-123\x0045"),
        lambda: OpenAI(server.url, api_key="sk-123é45"),
        lambda: OpenAI("http://me:sk-12345@127.0.0.1/v1"),
        lambda: OpenAI("http://127.0.0.1/v1?key=sk-12345"),
        lambda: OpenAI("ftp://me:sk-12345@127.0.0.1/v1"),
    ):
        with pytest.raises(PrlmError) as caught:
            make()
        texts.append(f"{caught.value.message} {caught.value.hint}")
    assert not any("sk-" in text for text in texts), texts
