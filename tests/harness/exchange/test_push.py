"""Results sent to a stand-in of the Hub that speaks its HTTP: shown first, private, and no token in any line."""

import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from harness.cli import invoke

from ...helpers import making

TOKEN = "hf_" + "secret" * 5


class Hub(ThreadingHTTPServer):
    """What it was asked, and how it answers: `status` refuses everything, `private` is what a data set there is."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.status, self.private = [], 200, True


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer("POST", body)

    def do_GET(self):
        self._answer("GET", b"")

    do_HEAD = do_GET

    def _answer(self, verb, body):
        path = self.path.partition("?")[0]
        self.server.asked.append((verb, path, body, self.headers.get("Authorization")))
        status, answer = 200, {}
        if self.server.status != 200:
            status, answer = self.server.status, {"error": f"no, {self.headers.get('Authorization')}"}
        elif path.endswith("/repos/create"):
            name = json.loads(body)["name"]
            host = self.headers["Host"]
            answer = {"url": f"http://{host}/datasets/me/{name}", "name": f"me/{name}", "id": f"me/{name}"}
        elif "/preupload/" in path:
            files = json.loads(body)["files"]
            answer = {
                "files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]
            }
        elif "/commit/" in path:
            answer = {
                "success": True,
                "commitOid": "0" * 40,
                "commitUrl": f"http://{self.headers['Host']}/datasets/me/results/commit/{'0' * 40}",
                "hookOutput": "",
            }
        elif path.startswith("/api/datasets/"):
            answer = {"id": "me/results", "private": self.server.private, "sha": "0" * 40, "siblings": []}
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    out = tmp_path_factory.mktemp("push") / "runs"
    making.write_run(out, "plain", making.grid(0.3, lengths=(4096,), ratio=1))
    return out


class Done:
    """What a command came to."""

    def __init__(self, returncode, shown):
        self.returncode, self.stdout, self.stderr = returncode, shown.out, shown.err


@pytest.fixture
def pushed(hub, runs, tmp_path, monkeypatch, capsys):
    """`harness export --push` to the stand-in; whatever comes, the token is in no line."""
    from huggingface_hub import constants

    def call(*words, token=TOKEN, port=None):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr("sys.stdin", io.StringIO())
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port or hub.server_address[1]}")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        capsys.readouterr()
        status = invoke(["export", str(runs), "--push", "me/results", *words])
        done = Done(status, capsys.readouterr())
        assert TOKEN not in done.stdout + done.stderr
        return done

    return call


def test_results_are_shown_and_then_sent_to_a_private_data_set(hub, pushed):
    done = pushed("--yes")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"sent to http://127.0.0.1:{hub.server_address[1]}/datasets/me/results\n"
    assert "data set me/results (private: you and your organisation), 4 files" in done.stderr
    create = next(json.loads(body) for _, path, body, _ in hub.asked if path.endswith("/repos/create"))
    private = create.get("private") or create.get("visibility") == "private"  # older and newer clients
    assert (private, create["type"], create["name"]) == (True, "dataset", "results")
    [commit] = [body for _, path, body, _ in hub.asked if "/commit/" in path]
    sent = [json.loads(line)["value"] for line in commit.splitlines() if b'"file"' in line]
    assert sorted(each["path"] for each in sent) == [
        "README.md",
        "data/runs.parquet",
        "data/samples.parquet",
        "data/tasks.parquet",
    ]
    assert {key for _, _, _, key in hub.asked} == {f"Bearer {TOKEN}"}


def test_nothing_is_sent_that_nobody_confirmed(hub, pushed):
    done = pushed()
    assert done.returncode == 0 and "nothing was sent; --yes sends it" in done.stderr
    assert hub.asked == []


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "the token is not known there: type `hf auth login`, or set HF_TOKEN"),
        (403, "the token may not write to me/results: make one with write access"),
        (418, "it answers with status 418"),
    ],
)
def test_a_token_without_rights_is_one_line_that_does_not_have_it(hub, pushed, status, words):
    hub.status = status
    done = pushed("--yes")
    last = done.stderr.splitlines()[-1]
    assert (done.returncode, last) == (2, f"harness: the Hub refuses me/results: {words}"), done.stderr


def test_without_a_token_or_a_network(hub, pushed):
    done = pushed("--yes", token="")
    assert done.returncode == 2 and "the Hub wants a token that may write" in done.stderr and hub.asked == []
    done = pushed("--yes", port=9)
    assert done.returncode == 2 and "the Hub cannot be reached" in done.stderr.splitlines()[-1]


def test_private_results_do_not_go_into_a_public_data_set(hub, pushed):
    hub.private = False
    done = pushed("--yes")
    assert done.returncode == 2 and "is there already and is public: say --public" in done.stderr
    assert not any("/commit/" in path for _, path, _, _ in hub.asked)
    assert pushed("--yes", "--public").returncode == 0
