"""A page on paper, through a Chromium that is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from ..errors import UsageError

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
TIMEOUT = 300.0
"""Seconds that a browser may take for a page."""


def browser() -> str:
    """Path of an installed Chromium or one of its kin.

    Raises
    ------
    UsageError
        If there is none.
    """
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        raise UsageError(
            "a PDF is printed by Chromium, and none is on the PATH (Debian: apt-get install chromium); or write "
            "--out NAME.html and print that from any browser"
        )
    return found


def pdf(page: str) -> bytes:
    """The page as a PDF of A4 pages, everything that can be unfolded unfolded.

    Raises
    ------
    UsageError
        If there is no browser, or it fails.
    """
    program = browser()
    with tempfile.TemporaryDirectory(prefix="harness-pdf-") as folder:
        source, out = Path(folder) / "page.html", Path(folder) / "page.pdf"
        # a browser by itself takes the paper of where it runs; who prints by hand chooses
        source.write_text(page.replace("<html ", '<html data-paper="a4" ', 1), encoding="utf-8")
        command = [
            program,
            "--headless=new",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--no-pdf-header-footer",
            f"--user-data-dir={folder}/profile",
            f"--print-to-pdf={out}",
            source.as_uri(),
        ]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.insert(
                1, "--no-sandbox"
            )  # the superuser of a container has none; the page has no script but ours
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            raise UsageError(
                f"{program} did not print the page within {TIMEOUT:.0f} s; write --out NAME.html"
            ) from None
        if not out.is_file():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise UsageError(f"{program} could not print the page: {last}; write --out NAME.html instead")
        return out.read_bytes()


def pages(content: bytes) -> int:
    """How many pages a PDF that a browser printed has."""
    return len(re.findall(rb"/Type\s*/Page\b", content))


def first_that_fits(forms: Iterable[str]) -> bytes:
    """The first of several pages, ever shorter ones, that fits on one sheet; the last if none does.

    Raises
    ------
    UsageError
        As `pdf`.
    """
    content = b""
    for form in forms:
        content = pdf(form)
        if pages(content) == 1:
            break
    return content
