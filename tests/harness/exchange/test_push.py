"""Results sent to a stand-in of the Hub that speaks its HTTP: shown first, private, and no token in any line."""

import hashlib
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from harness.cli import invoke

from ...helpers import making

TOKEN = "hf_" + "secret" * 5


class Hub(ThreadingHTTPServer):
    """What it was asked, and how it answers.

    `status` refuses everything, `private` is what a data set there is. `large` are endings of files that go into the
    storage of large files, as the Hub has it for binary ones and for those over 10 MB; `parts` is the size of pieces
    they are sent in, `full` what the storage answers instead of taking them. `stored` is what it holds, by its SHA-256.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.status, self.private = [], 200, True
        self.large, self.parts, self.full = (), None, None
        self.stored, self.pieces = {}, {}


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
            answer = {"files": [{"path": f["path"], **self._mode(f["path"])} for f in files]}
        elif path.endswith("/info/lfs/objects/batch"):
            answer = {"transfer": "basic", "objects": [self._action(o) for o in json.loads(body)["objects"]]}
        elif path.startswith("/storage/"):
            status, answer = self._store(verb, path, body)
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
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_PUT(self):
        if length := self.headers.get("Content-Length"):
            return self._answer("PUT", self.rfile.read(int(length)))
        pieces = []
        while size := int(self.rfile.readline(), 16):  # a body of no known length comes in chunks
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return self._answer("PUT", b"".join(pieces))

    def _mode(self, path):
        large = path.endswith(self.server.large) if self.server.large else False
        return {"uploadMode": "lfs" if large else "regular", "shouldIgnore": False}

    def _action(self, wanted):
        """What is to be done with a large file: nothing if it is there, else one piece, or several."""
        oid, size, parts = wanted["oid"], wanted["size"], self.server.parts
        if oid in self.server.stored:
            return wanted
        place = f"http://{self.headers['Host']}/storage/{oid}"
        upload = {"href": place}
        if parts:
            count = -(-size // parts) if isinstance(parts, int) else 1
            pieces = {str(i + 1): f"{place}/{i + 1}" for i in range(count)}
            upload["header"] = {"chunk_size": str(parts), **pieces}
        return {**wanted, "actions": {"upload": upload, "verify": {"href": f"{place}/verify"}}}

    def _store(self, verb, path, body):
        """A piece is kept; of a whole file the bytes must be those of its name."""
        _, _, oid, *piece = path.split("/")
        server = self.server
        if verb == "PUT" and server.full:
            return server.full, {"error": "the storage is full"}
        if piece == ["verify"]:
            there = len(server.stored.get(oid, b"")) == json.loads(body)["size"]
            return (200, {}) if there else (422, {"error": "another size"})
        if piece:
            server.pieces[oid, int(piece[0])] = body
            return 200, {}
        if verb == "POST":  # all pieces were sent
            numbers = [part["partNumber"] for part in json.loads(body)["parts"]]
            body = b"".join(server.pieces[oid, number] for number in numbers)
        if hashlib.sha256(body).hexdigest() != oid:
            return 422, {"error": "other bytes"}
        server.stored[oid] = body
        return 200, {}

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
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # whose servers no stand-in speaks for
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


@pytest.mark.parametrize("parts", [None, 4000])
def test_large_and_binary_files_go_into_the_storage_of_large_files(hub, pushed, parts):
    import pyarrow.parquet as pq

    hub.large, hub.parts = (".parquet",), parts
    done = pushed("--yes")
    assert done.returncode == 0, done.stderr
    [commit] = [body for _, path, body, _ in hub.asked if "/commit/" in path]
    lines = [json.loads(line) for line in commit.splitlines()]
    assert [line["value"]["path"] for line in lines if line["key"] == "file"] == ["README.md"]
    large = {line["value"]["path"]: line["value"]["oid"] for line in lines if line["key"] == "lfsFile"}
    assert set(large) == {f"data/{name}.parquet" for name in ("runs", "samples", "tasks")}
    samples = pq.read_table(io.BytesIO(hub.stored[large["data/samples.parquet"]]))
    assert samples.num_rows == 15 and "prediction" in samples.column_names
    assert bool(hub.pieces) == bool(parts)
    to_storage = [key for verb, path, _, key in hub.asked if verb == "PUT"]
    assert len(to_storage) >= 3 and set(to_storage) == {None}, "the storage is somebody else: no token for it"
    before = len(to_storage)
    assert pushed("--yes").returncode == 0
    assert len([1 for verb, *_ in hub.asked if verb == "PUT"]) == before, "what is there is not sent again"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (403, "the token may not write to me/results: make one with write access"),
        (413, "it answers with status 413"),
    ],
)
def test_a_storage_that_refuses_is_one_line(hub, pushed, status, words):
    hub.large, hub.full = (".parquet",), status
    done = pushed("--yes")
    assert (
        done.returncode == 2
        and done.stderr.splitlines()[-1] == f"harness: the Hub refuses me/results: {words}"
    )
    assert not any("/commit/" in path for _, path, _, _ in hub.asked)


def test_an_answer_the_client_does_not_understand_is_one_line(hub, pushed):
    hub.large, hub.parts = (".parquet",), "x"
    done = pushed("--yes")
    assert done.returncode == 2 and "the Hub did not take the files" in done.stderr.splitlines()[-1], (
        done.stderr
    )
