"""Whether a host answers at all: asked before clients that try for a minute where there is no network."""

from __future__ import annotations

import os
import socket
from functools import cache
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

HUB = "https://huggingface.co"
SECONDS = 4.0
"""For a connection to a host, by the nearest of its addresses."""
ADDRESSES = 2
"""So many addresses of a host are tried."""


def hub_answers() -> bool:
    """Whether the Hub, or the mirror of ``HF_ENDPOINT``, can be reached from here."""
    return answers(os.environ.get("HF_ENDPOINT") or HUB)


@cache
def answers(url: str) -> bool:
    """Whether the host of an address, or the proxy before it, takes a connection within `SECONDS`; asked once."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
    proxy = getproxies().get(parts.scheme)
    if proxy and not proxy_bypass(host):
        between = urlsplit(proxy if "//" in proxy else f"//{proxy}")
        host, port = between.hostname or "", between.port or 80
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[:ADDRESSES]
    except (OSError, UnicodeError):
        return False
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as connection:
                connection.settimeout(SECONDS / ADDRESSES)
                connection.connect(address)
                return True
        except OSError:
            continue
    return False
