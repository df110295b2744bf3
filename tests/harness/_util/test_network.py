"""Whether a host answers is known at once, network or none."""

import socket
import time

import pytest

from harness._util import network
from harness.errors import UsageError
from harness.models.hub import hub_repo
from harness.tasks._rows import from_hub

REAL = network.answers


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    monkeypatch.setattr(network, "answers", REAL)
    REAL.cache_clear()
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield
    REAL.cache_clear()


def test_a_host_that_takes_connections_answers(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert network.hub_answers()


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://no-such-host.invalid", "nonsense"])
def test_one_that_is_not_there_does_not(monkeypatch, endpoint):
    monkeypatch.setattr(network.socket, "getaddrinfo", _known(network.socket.getaddrinfo))
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    before = time.monotonic()
    assert not network.hub_answers() and time.monotonic() - before < 10


def _known(real):
    def found(host, *args, **kwargs):
        if host.endswith(".invalid"):
            raise socket.gaierror("unknown")
        return real(host, *args, **kwargs)

    return found


def test_the_proxy_is_asked_where_there_is_one(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("http_proxy", f"127.0.0.1:{server.getsockname()[1]}")
        assert network.answers("http://no-such-host.invalid")


@pytest.mark.parametrize(
    ("proxy", "wrong"),
    [
        ("http://127.0.0.1:9", "'http://127.0.0.1:9', does not answer"),
        ("http://me:secret@127.0.0.1:9", "'127.0.0.1:9', does not answer"),
        ("http://[nonsense", "'http://[nonsense', is no address"),
        ("http://host:99999", "'http://host:99999', is no address"),
        ("http:/host", "'http:/host', "),
    ],
)
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_download_names_the_proxy_that_is_wrong(monkeypatch, tmp_path, proxy, wrong, variable):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.setenv(variable, proxy)
    before = time.monotonic()
    for fetch in (_model, _rows):
        with pytest.raises(UsageError) as caught:
            fetch()
        assert f"the proxy of {variable}, {wrong}" in str(caught.value) and "\n" not in str(caught.value)
        assert "secret" not in str(caught.value)
    assert time.monotonic() - before < 10


def _model():
    hub_repo("no-such-org/no-such-model", False, False, lambda note: None)


def _rows():
    from_hub("family", "no-such-org/no-such-data", "rows.jsonl", False, "give it")
