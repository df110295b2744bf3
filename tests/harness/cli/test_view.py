"""``harness view``: a folder of runs on this machine alone, as it is now."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest

from harness import UsageError
from harness.cli import invoke
from harness.cli._viewing import Shelf, server

from ...helpers import making
from ...helpers.browser import Browser, find


@contextlib.contextmanager
def served(folder, **options):
    with server(Shelf(folder, **options), 0) as serving:
        threading.Thread(target=serving.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_address[1]}"
        serving.shutdown()


def get(address, host=None, method="GET"):
    request = urllib.request.Request(address, headers={"Host": host} if host else {}, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as answer:
        return answer.read().decode()


def test_it_shows_what_there_is_and_then_what_came(tmp_path):
    making.write_run(tmp_path, "plain", making.grid(0.3, ratio=1, trials=1))
    with served(tmp_path) as address:
        before = json.loads(get(f"{address}/state"))
        assert before["any"] and before["line"].startswith(f"1 run in {tmp_path}; last change ")
        assert "two_pass" not in get(f"{address}/report")
        records = making.grid(0.9, trials=1)
        going = making.write_run(tmp_path, "two_pass", records, status="running")
        lines = (going / "samples.jsonl").read_text("utf-8").splitlines(keepends=True)
        (going / "samples.jsonl").write_text("".join(lines[:4]) + lines[4][:40], encoding="utf-8")
        now = json.loads(get(f"{address}/state"))
        assert now["stamp"] != before["stamp"] and "1 not finished: 4 of 15 samples" in now["line"]
        page = get(f"{address}/report")
        assert "two_pass" in page and "4 of" in page, "half a line is none"
        assert get(f"{address}/report?anything") == page, "and is made once"
        assert get(f"{address}/", method="HEAD") == ""


def test_what_cannot_be_read_is_left_out_and_said(tmp_path):
    with served(tmp_path) as address:
        assert "no run in" in json.loads(get(f"{address}/state"))["line"]
        assert get(f"{address}/report") == ""
        making.write_run(tmp_path, "plain", making.grid(0.3, trials=1))
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "run.json").write_text('{"schema": 99}')
        assert "plain" in get(f"{address}/report")
        problem = json.loads(get(f"{address}/state"))["problem"]
        assert problem.startswith("left out: ") and "is no run of this version" in problem


@pytest.mark.parametrize(
    "path", ["/../../etc/passwd", "/runs/run.json", "/%2e%2e/x", "//etc/passwd", "/report/.."]
)
def test_no_file_is_served(path, tmp_path):
    making.write_run(tmp_path / "runs", "plain", making.grid(0.3, trials=1))
    with served(tmp_path / "runs") as address:
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(address + path)
        with pytest.raises(urllib.error.HTTPError, match="403"):  # a name that was pointed here
            get(f"{address}/report", host="evil.example:80")
        with pytest.raises(urllib.error.HTTPError, match="501"):
            get(f"{address}/report", method="POST")


def test_a_port_in_use_and_a_folder_that_is_not_there_are_one_line(tmp_path, capsys):
    with server(Shelf(tmp_path), 0) as taken:
        port = taken.server_address[1]
        assert taken.server_address[0] == "127.0.0.1"
        with pytest.raises(UsageError, match=f"--port {port}: .*; another --port, or 0"):
            server(Shelf(tmp_path), port)
    assert invoke(["view", str(tmp_path / "nowhere")]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_ctrl_c_ends_it_quietly(tmp_path):
    words = [sys.executable, "-m", "harness", "view", str(tmp_path), "--port", "0"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    started = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    assert f"{tmp_path} at http://127.0.0.1:" in started.stdout.readline()
    os.kill(started.pid, signal.SIGINT)
    assert started.wait(20) == 0 and started.stderr.read() == ""
    started.stdout.close()
    started.stderr.close()


def test_a_browser_follows_a_run_that_goes_on(tmp_path):
    if (program := find()) is None:
        pytest.skip("no Chromium on PATH (Debian: apt-get install chromium)")
    runs = tmp_path / "runs"
    making.write_run(runs, "plain", making.grid(0.3, ratio=1, trials=1))
    browser = Browser(program, tmp_path / "profile")
    text = "document.getElementById('report').contentDocument?.body?.textContent"

    def until(expression, seconds=30):
        end = time.monotonic() + seconds
        while not browser.value(expression):
            assert time.monotonic() < end, (expression, browser.console)
            time.sleep(0.2)

    try:
        with served(runs) as address:
            browser.open(f"{address}/", 1280)
            until(f"{text}?.includes('plain on tiny')")
            making.write_run(runs, "two_pass", making.grid(0.9, trials=1))
            until(f"{text}?.includes('two_pass')")
            assert browser.value("document.documentElement.scrollWidth") <= 1280
            assert all(url.startswith((address, "data:")) for url in browser.requests)
            assert browser.console == []
        until("document.getElementById('line').textContent.includes('has ended')")
    finally:
        browser.close()
