"""A folder of runs as a page on this machine: what it holds now, and the server that shows it."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import UsageError

if TYPE_CHECKING:
    from ..contracts.run import LoadedRun

HOST = "127.0.0.1"
"""Nobody else is served: records hold whatever the data held."""


class Shelf:
    """The runs in a folder, and the page of them as they were last read.

    Parameters
    ----------
    folder
        A run's folder, or a folder of runs; it may be empty yet.
    baseline
        As ``harness report --baseline``.
    """

    def __init__(self, folder: Path, baseline: str | None = None) -> None:
        self.folder, self._baseline = folder, baseline
        self._lock = threading.Lock()
        self._heads: dict[Path, tuple[tuple[int, int], dict[str, Any]]] = {}
        self._made = ("", "")
        self._problem = ""

    def runs(self) -> list[Path]:
        """Folders of runs, those that have just begun included."""
        from ..results.loading import run_folders

        try:
            return run_folders(self.folder)
        except UsageError:
            return []

    def state(self) -> dict[str, Any]:
        """What there is now: ``stamp`` changes whenever a run does, ``line`` and ``problem`` are for people."""
        folders = self.runs()
        marks, newest = [], 0
        for folder in folders:
            for path in sorted(p for p in folder.rglob("*.json*") if p.is_file()):
                try:
                    told = path.stat()
                except OSError:  # replaced just now
                    continue
                marks.append(f"{path}:{told.st_mtime_ns}:{told.st_size}")
                newest = max(newest, told.st_mtime_ns)
        stamp = hashlib.sha256("\n".join(marks).encode()).hexdigest()[:16]
        return {
            "stamp": stamp,
            "any": bool(folders),
            "line": self._line(folders, newest),
            "problem": self._problem,
        }

    def _line(self, folders: list[Path], newest: int) -> str:
        if not folders:
            return f"no run in {self.folder} yet; this page shows it as soon as there is one"
        heads = [self._head(folder) for folder in folders]
        open_ones = [(f, h) for f, h in zip(folders, heads) if h.get("status") == "running"]
        words = f"{len(folders)} run{'s' * (len(folders) > 1)} in {self.folder}"
        if open_ones:
            done = sum(_lines(folder) for folder, _ in open_ones)
            planned = sum(p.get("samples", 0) for _, h in open_ones for p in h.get("prompts", {}).values())
            words += f", {len(open_ones)} not finished: {done:,} of {planned:,} samples"
        return f"{words}; last change {time.strftime('%H:%M:%S', time.localtime(newest / 1e9))}"

    def _head(self, folder: Path) -> dict[str, Any]:
        path = folder / "run.json"
        try:
            told = path.stat()
            mark = (told.st_mtime_ns, told.st_size)
            if self._heads.get(folder, ((0, 0), {}))[0] != mark:
                found = json.loads(path.read_text(encoding="utf-8"))
                self._heads[folder] = (mark, found if isinstance(found, dict) else {})
        except (OSError, ValueError):
            return {}
        return self._heads[folder][1]

    def page(self) -> str:
        """The report of all runs that can be read, made anew if one changed; the last one where none can."""
        with self._lock:
            stamp = self.state()["stamp"]
            if self._made[0] != stamp:
                try:
                    self._made = (stamp, self._report())
                except UsageError as error:
                    self._problem = str(error)
            return self._made[1]

    def _report(self) -> str:
        from .. import render
        from ..comparison import reporting
        from ..results.labels import in_order, labelled
        from ..results.loading import load_run
        from ..results.merging import merged

        found: list[LoadedRun] = []
        problems = []
        for folder in self.runs():
            try:
                found.append(load_run(folder))
            except UsageError as error:
                problems.append(str(error))
        self._problem = "; ".join(f"left out: {each}" for each in problems)
        if not found:
            raise UsageError(self._problem or f"no run in {self.folder}")
        runs = reporting.first(merged(labelled(in_order(found))), self._baseline)
        makers = reporting.makers(reporting.installed(reporting.EVERYTHING, others=True), None)
        documents = [d for maker in makers if not (d := maker.build(runs)).empty]
        return render.as_html(documents, reporting.title(runs), *reporting.frame(runs))


def _lines(folder: Path) -> int:
    """Samples that are written down, by whichever process."""
    from ..results.run_folder import RunFolder

    run = RunFolder(folder)
    return sum(path.read_bytes().count(b"\n") for path in (run.samples_path, *run.parts()) if path.is_file())


def server(shelf: Shelf, port: int) -> ThreadingHTTPServer:
    """A server of the shelf on this machine alone, ready to `serve_forever`. Raises UsageError for a port in use."""
    try:
        made = _Server((HOST, port), _Handler)
    except OSError as error:
        why = error.strerror or error
        raise UsageError(f"--port {port}: {why}; another --port, or 0 for any that is free") from None
    made.shelf = shelf
    return made


class _Server(ThreadingHTTPServer):
    shelf: Shelf
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that left in the middle is nothing to tell of."""


class _Handler(BaseHTTPRequestHandler):
    """Three addresses, none of them a path on the disk."""

    server: _Server

    def do_GET(self) -> None:
        from ..render.view import frame

        host = self.headers.get("Host", "").rpartition(":")[0]
        if host not in (HOST, "localhost"):  # another site's name that was pointed here
            self._send(403, "text/plain", "only under 127.0.0.1 or localhost\n")
            return
        shelf = self.server.shelf
        made: dict[str, tuple[str, Callable[[], str]]] = {
            "/": ("text/html", lambda: frame(str(shelf.folder))),
            "/report": ("text/html", shelf.page),
            "/state": ("application/json", lambda: json.dumps(shelf.state())),
        }
        if (found := made.get(urlsplit(self.path).path)) is None:
            self._send(404, "text/plain", "there is /, /report and /state\n")
            return
        self._send(200, found[0], found[1]())

    do_HEAD = do_GET

    def _send(self, status: int, kind: str, text: str) -> None:
        content = text.encode("utf-8", "replace")
        self.send_response(status)
        for name, value in (
            ("Content-Type", f"{kind}; charset=utf-8"),
            ("Content-Length", str(len(content))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Content-Security-Policy", "frame-ancestors 'self'"),
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal is for the address."""
