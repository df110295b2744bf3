"""Pictures of page, sheet, terminal, view and notebook for the documentation: ``python -m tools.screenshots``.

Needs Chromium and poppler's ``pdftoppm`` (Debian: chromium, poppler-utils). The runs are made without a model (see
`tests/helpers/making.py`), so that a picture shows how things look and never what a method is worth.
"""

from __future__ import annotations

import html
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
IMAGES = ROOT / "docs" / "images"
TITLE = "Four methods on five tasks"

QUESTIONS = {
    "passkey": ("What is the pass key?", "Somewhere in this text stands a key, among much else."),
    "longbench/qasper": ("Which data set do the authors evaluate on?", "Introduction. We study how readers"),
    "longbench/trec": ("What kind of question is the last one?", "Question: How far is it from here to"),
    "longbench/lcc": ("What is the next line of code?", "import os\nimport sys\n"),
    "niah": ("What grows by the north gate?", "It had rained since the morning, and nobody"),
}
"""For each task a question, and how its texts begin."""


def made_runs(out: Path) -> None:
    """Four runs over five tasks, one with a failure."""
    making: Any = import_module("tests.helpers.making")
    making.four_runs(out)
    for path in sorted(out.glob("*/samples.jsonl")):
        records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        lines = [json.dumps(dressed(r, path.parent.name)) + "\n" for r in records]
        path.write_text("".join(lines), encoding="utf-8")


def dressed(record: dict[str, Any], run: str) -> dict[str, Any]:
    """The record with a question, a context and answers as a reader would meet them."""
    question, begin = QUESTIONS[record["task"]]
    chance = random.Random(record["id"])
    key, other = (str(chance.randrange(10_000, 100_000)) for _ in range(2))
    made = {**record, "excerpt": {"question": question, "begin": begin, "end": "and so on, until the end."}}
    if record["task"] == "passkey":
        made["references"] = [key]
        if record["status"] == "ok":
            made["prediction"] = f"The pass key is {key if record['scores']['accuracy'] else other}."
    if run.startswith("plain-"):
        made["details"] = {}  # which has no intervals
    return made


def still_going(runs: Path) -> None:
    """Make the last run one that has answered half of its samples."""
    folder = sorted(runs.glob("two_pass-*"))[0]
    written = json.loads((folder / "run.json").read_text("utf-8"))
    written.pop("summary")
    (folder / "run.json").write_text(json.dumps({**written, "status": "running"}), encoding="utf-8")
    lines = (folder / "samples.jsonl").read_text("utf-8").splitlines(keepends=True)
    (folder / "samples.jsonl").write_text("".join(lines[: len(lines) // 2]), encoding="utf-8")


def terminal(runs: Path) -> str:
    """The terminal's report at 80 columns, as a page around an SVG."""
    from rich.console import Console
    from rich.terminal_theme import MONOKAI

    from harness import render
    from harness.comparison import reporting
    from harness.results.loading import load_runs

    loaded = list(load_runs(runs))
    documents = [maker.build(loaded) for maker in reporting.makers(reporting.SHORT, None)]
    console = Console(record=True, width=80, file=StringIO(), force_terminal=True)
    console.print(render.as_terminal(documents, 80, compact=True))
    svg = console.export_svg(title="harness report", theme=MONOKAI)
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # which would be fetched
    return f"<!doctype html><meta charset=utf-8><body style='margin:0'>{svg}"


def notebook(path: Path) -> str:
    """The cells of an executed notebook with what they show, one below the other."""
    parts = []
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            level, text = ("h1", source[2:]) if source.startswith("# ") else ("p", source)
            head, _, rest = text.partition("\n\n")
            parts.append(f"<{level}>{prose(head)}</{level}><p>{prose(rest)}</p>")
            continue
        parts.append(f"<pre class=code>{html.escape(source)}</pre>")
        parts += [shown(output) for output in cell["outputs"]]
    style = (
        "body { font: 14px sans-serif; margin: 16px } h1 { font-size: 22px }"
        ".code { background: #f3f3f3; padding: 8px; border-left: 3px solid #6a8bad }"
    )
    return f"<!doctype html><meta charset=utf-8><style>{style}</style><body>{''.join(parts)}"


def prose(text: str) -> str:
    """Markdown without anything but code in it."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text))


def shown(output: dict[str, Any]) -> str:
    """One output of a cell, in the richest of its forms."""
    data = output.get("data", {"text/plain": output.get("text", "")})
    if "text/html" in data:
        return f"<div>{''.join(data['text/html'])}</div>"
    if "image/png" in data:
        return f"<img src='data:image/png;base64,{''.join(data['image/png'])}'>"
    return f"<pre>{html.escape(''.join(data['text/plain']))}</pre>"


def pages(browser: Any, page: Path) -> None:
    """The page, light, dark and on a phone, and its samples."""
    for target, width, dark in (("light", 1280, False), ("dark", 1280, True), ("phone", 390, False)):
        browser.open(page.as_uri(), width, dark=dark)
        browser.screenshot(IMAGES / f"page-{target}.png", 1700)
    browser.open(page.as_uri(), 1280)
    browser.value(
        "[...document.querySelectorAll('main > section:not(#samples), header, nav')].forEach(e => e.remove())"
    )
    browser.screenshot(IMAGES / "page-samples.png", 880)


def viewed(browser: Any, runs: Path) -> None:
    """`harness view` of runs of which one goes on."""
    from harness.cli._viewing import Shelf, server

    still_going(runs)
    with server(Shelf(Path(runs.name)), 0) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        browser.open(f"http://127.0.0.1:{serving.server_address[1]}/", 1280, 760)
        there = "document.querySelector('iframe')?.contentDocument?.querySelector('#forest-t') != null"
        while not browser.value(there):
            pass
        browser.screenshot(IMAGES / "view.png", 760)
        serving.shutdown()


def main() -> None:
    """Make the runs, the pages, and a picture of each."""
    from harness.cli import invoke

    tool: Any = import_module("tests.helpers.browser")
    program, rasteriser = tool.find(), shutil.which("pdftoppm")
    if program is None or rasteriser is None:
        sys.exit("Chromium and pdftoppm are needed (Debian: apt-get install chromium poppler-utils)")
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)  # so that no picture has a path of this machine
        made_runs(folder / "runs")
        for out, *more in (("page.html",), ("sheet.pdf", "--brief")):
            if invoke(["report", "runs", "--out", out, "--title", TITLE, "--quiet", *more]):
                sys.exit(f"{out} could not be made")
        draw = [rasteriser, "-r", "100", "-png", "-singlefile", "sheet.pdf", str(IMAGES / "sheet")]
        subprocess.run(draw, check=True)
        browser = tool.Browser(program, folder / "profile")
        pages(browser, folder / "page.html")
        for target, made, width in (
            ("terminal", terminal(folder / "runs"), 994),
            ("notebook", notebook(ROOT / "docs" / "notebook.ipynb"), 1000),
        ):
            (folder / f"{target}.html").write_text(made, encoding="utf-8")
            browser.open((folder / f"{target}.html").as_uri(), width)
            browser.screenshot(IMAGES / f"{target}.png")
        viewed(browser, folder / "runs")
        browser.close()
    print(f"pictures in {IMAGES}")


if __name__ == "__main__":
    main()
