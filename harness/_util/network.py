"""Whether a host answers at all: asked before clients that try for a minute where there is no network."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

HUB = "https://huggingface.co"
SECONDS = 4.0
"""For a connection to a host, by the nearest of its addresses."""
ADDRESSES = 2
"""So many addresses of a host are tried."""


def hub_answers() -> bool:
    """Whether the Hub, or the mirror of ``HF_ENDPOINT``, can be reached from here."""
    return answers(os.environ.get("HF_ENDPOINT") or HUB)


def hub_out_of_reach() -> str:
    """Why the Hub does not answer, in words that end a line: a proxy before it is named with its variable."""
    found = _proxy(urlsplit(os.environ.get("HF_ENDPOINT") or HUB))
    if found is None:
        return "the Hub cannot be reached"
    variable, address = found
    shown = address.rpartition("@")[2]  # a name and a password may stand before it
    return (
        f"the Hub cannot be reached: the proxy of {variable}, {shown!r}, "
        f"{'is no address' if _place(address) is None else 'does not answer'}; correct or unset {variable}"
    )


def _proxy(target: SplitResult) -> tuple[str, str] | None:
    """The variable that names the proxy before an address, and its value; None without one."""
    proxies = getproxies()
    for scheme in (target.scheme, "all"):
        if (proxy := proxies.get(scheme)) and not proxy_bypass(target.hostname or ""):
            names = (f"{scheme}_proxy", f"{scheme}_proxy".upper())
            return next((name for name in names if os.environ.get(name)), names[0]), proxy
    return None


def _place(address: str) -> tuple[str, int] | None:
    """Host and port of a proxy; None if that is no address."""
    try:
        parts = urlsplit(address if "//" in address else f"//{address}")
        return (parts.hostname, parts.port or 80) if parts.hostname else None
    except ValueError:
        return None


@cache
def answers(url: str) -> bool:
    """Whether the host of an address, or the proxy before it, takes a connection within `SECONDS`; asked once."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
    if proxy := _proxy(parts):
        place = _place(proxy[1])
        if place is None:
            return False
        host, port = place
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


@contextmanager
def offline(wanted: bool = True) -> Iterator[None]:
    """Hold the Hub's libraries to what is on the disk: what is not there fails at once, without a connection.

    Their own switches are read when they are imported, so they are turned here, and turned back.
    """
    if not wanted:
        yield
        return
    import datasets.config
    import huggingface_hub.constants

    # which of the two names `datasets` obeys depends on its version
    switches = [
        (datasets.config, "HF_DATASETS_OFFLINE"),
        (datasets.config, "HF_HUB_OFFLINE"),
        (huggingface_hub.constants, "HF_HUB_OFFLINE"),
    ]
    before = [(module, name, getattr(module, name)) for module, name in switches if hasattr(module, name)]
    try:
        for module, name, _ in before:
            setattr(module, name, True)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
