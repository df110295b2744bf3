"""Whether a host answers is known at once, network or none."""

import socket
import time

import pytest

from harness._util import network

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
