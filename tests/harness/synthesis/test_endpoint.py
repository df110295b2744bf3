"""The endpoint generator against a stand-in server."""

import contextlib
import json
import time

import pytest

from harness._util import server as server_of
from harness.contracts.recipe import Request
from harness.errors import HarnessError, UsageError
from harness.synthesis import endpoint
from harness.synthesis.endpoint import EndpointGenerator

from ...helpers.serving import Server

ASKED = [Request(f"story {n}", f"Say {n}.", 20, 0.7, 50) for n in range(4)]


def chat(body, finish="stop"):
    text = "said " + body["messages"][0]["content"]
    return 200, {"choices": [{"message": {"content": text}, "finish_reason": finish}],
                 "usage": {"completion_tokens": 7}}  # fmt: skip


@pytest.fixture
def serve():
    servers = []

    def start(reply):
        servers.append(Server(reply))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def test_answers_come_in_order_with_key_seed_and_sampling(serve, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    server = serve(lambda body, n: chat(body, "length" if "2" in body["messages"][0]["content"] else "stop"))
    generator = EndpointGenerator(server.url + "/v1/", "big", 3)
    answers = generator.generate(ASKED, 42)
    assert [a.text for a in answers] == [f"said Say {n}." for n in range(4)]
    assert [a.ended for a in answers] == [True, True, False, True] and answers[0].tokens == 7
    assert {s["path"] for s in server.seen} == {"/v1/chat/completions"}
    assert {s["key"] for s in server.seen} == {"Bearer secret"}
    assert len({s["seed"] for s in server.seen}) == 4
    assert {(s["model"], s["max_tokens"], s["temperature"], s["top_k"]) for s in server.seen} == {
        ("big", 20, 0.7, 50)
    }
    assert "secret" not in json.dumps(generator.facts())


def test_a_busy_server_is_asked_again(serve):
    server = serve(lambda body, n: (429 if n == 1 else 503, {}) if n < 3 else chat(body))
    assert EndpointGenerator(server.url, "m", 1, wait=0.01).generate(ASKED[:1], 1)[0].text == "said Say 0."
    assert len(server.seen) == 3


def test_top_k_is_left_out_where_it_is_no_field(serve):
    server = serve(lambda body, n: (422, {"detail": "top_k: extra"}) if "top_k" in body else chat(body))
    assert len(EndpointGenerator(server.url, "m", 1).generate(ASKED[:1], 1)) == 1


def test_top_k_is_left_out_where_it_is_refused(serve):
    def reply(body, n):
        return (400, {"error": "unknown argument: top_k"}) if "top_k" in body else chat(body)

    server = serve(reply)
    generator = EndpointGenerator(server.url, "m", 1)
    assert len(generator.generate(ASKED, 1)) == 4
    assert sum("top_k" in s for s in server.seen) == 1


@pytest.mark.parametrize(
    ("reply", "said", "calls"),
    [
        (lambda body, n: (401, {"error": "no such key"}), "HTTP 401 .*no such key", 1),
        (lambda body, n: (500, {}), "HTTP 500", server_of.ATTEMPTS),
        (lambda body, n: (200, {"hello": 1}), "no chat completion", 1),
        (lambda body, n: (200, [1]), "no chat completion", 1),
    ],
)
def test_a_failure_is_one_line(serve, reply, said, calls):
    server = serve(reply)
    with pytest.raises(HarnessError, match=said) as caught:
        EndpointGenerator(server.url, "m", 1, wait=0.001).generate(ASKED[:1], 1)
    assert "\n" not in str(caught.value) and len(server.seen) == calls


def test_nobody_there_is_one_line():
    with pytest.raises(HarnessError, match="resumes"):
        EndpointGenerator("http://127.0.0.1:9", "m", 1, wait=0.001).generate(ASKED[:1], 1)
    with pytest.raises(UsageError, match="write an address"):
        EndpointGenerator("127.0.0.1:9", "m", 1)


def raw_server(serve, answer):
    """A server that writes what `answer(handler)` writes."""
    server = serve(lambda body, n: (200, {}))

    def do_POST(handler):
        handler.rfile.read(int(handler.headers["Content-Length"]))
        server.seen.append(handler.headers.get("Authorization"))
        with contextlib.suppress(OSError):
            answer(handler)

    server.http.RequestHandlerClass.do_POST = do_POST
    return server


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed_and_takes_no_key_along(serve, monkeypatch, status):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    other = serve(lambda body, n: chat(body))

    def answer(handler):
        handler.send_response(status)
        handler.send_header("Location", other.url + "/v1/chat/completions")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    server = raw_server(serve, answer)
    with pytest.raises(HarnessError, match="not followed"):
        EndpointGenerator(server.url, "m", 1, wait=0.001).generate(ASKED[:1], 1)
    assert server.seen == ["Bearer secret"] and not other.seen


def test_the_key_is_not_printed_if_the_server_says_it(serve, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key")
    server = serve(lambda body, n: (401, {"error": "no such key: secret-key " + "x" * 180 + "secret-key"}))
    with pytest.raises(HarnessError, match="<OPENAI_API_KEY>") as caught:
        EndpointGenerator(server.url, "m", 1).generate(ASKED[:1], 1)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("slow", [True, False])
def test_an_answer_without_end_comes_to_one(serve, monkeypatch, slow):
    monkeypatch.setattr(endpoint, "TIMEOUT", 1)

    def answer(handler):
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b" " if slow else b" " * (1 << 20))
            if slow:
                time.sleep(0.2)

    server, began = raw_server(serve, answer), time.monotonic()
    with pytest.raises(HarnessError, match="longer than"):
        EndpointGenerator(server.url, "m", 1, wait=0.001).generate(ASKED[:1], 1)
    assert time.monotonic() - began < 10


def test_a_server_that_drips_headers_comes_to_an_end(serve, monkeypatch):
    monkeypatch.setattr(endpoint, "TIMEOUT", 1)

    def answer(handler):
        for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 10_000:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            time.sleep(0.1)

    server, began = raw_server(serve, answer), time.monotonic()
    with pytest.raises(HarnessError, match="took longer than 1 seconds"):
        EndpointGenerator(server.url, "m", 1, wait=0.001).generate(ASKED[:1], 1)
    assert time.monotonic() - began < 10


def test_the_key_is_not_kept_if_an_answer_says_it(serve, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key")
    reply = {"choices": [{"message": {"content": "my key is secret-key"}, "finish_reason": "stop"}]}
    (answer,) = EndpointGenerator(serve(lambda body, n: (200, reply)).url, "m", 1).generate(ASKED[:1], 1)
    assert answer.text == "my key is <OPENAI_API_KEY>"


@pytest.mark.parametrize("key", ["secret\nkey", "secret\x00key", "sécret"])
def test_a_key_that_cannot_be_sent_is_not_printed(serve, monkeypatch, key):
    if "\0" in key:
        monkeypatch.setattr(server_of.os, "environ", {"OPENAI_API_KEY": key})
    else:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(UsageError, match="cannot carry") as caught:
        EndpointGenerator(serve(lambda body, n: chat(body)).url, "m", 1).generate(ASKED[:1], 1)
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http://:80",
        "http://h:99999",
        "http://a b/",
        "http://höst",
        "ftp://h",
        "http://u:hunter2@h:1/",
    ],
)
def test_an_address_that_is_none_is_refused_before_anything_is_sent(url):
    with pytest.raises(UsageError, match="--generator") as caught:
        EndpointGenerator(url, "m", 1)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "said",
    [
        b'{"choices": [{"message": {"content": ["a", "list"]}}]}',
        b'{"choices": [{"message": {"content": 5}}]}',
        b"[" * 100_000,
        b'{"choices": [{"message": {"content": "a"}}], "usage": {"completion_tokens": 1e999}}',
        b'{"choices": [{"message": {"content": "\\ud800"}}]}',
        b"\xff\xfe garbage",
    ],
)
def test_what_is_no_answer_is_one_line(serve, said):
    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(said)))
        handler.end_headers()
        handler.wfile.write(said)

    with pytest.raises(HarnessError, match="no chat completion"):
        EndpointGenerator(raw_server(serve, answer).url, "m", 1, wait=0.001).generate(ASKED[:1], 1)
