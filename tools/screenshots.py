"""Pictures of page, terminal and notebook for the documentation: ``python -m tools.screenshots``.

Needs Chromium. The runs are made without a model (see `tests/helpers/making.py`), so that a picture shows how things
look and never what a method is worth.
"""

from __future__ import annotations

import re
import sys
import tempfile
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
IMAGES = ROOT / "docs" / "images"


def made_runs(out: Path) -> None:
    """Four runs over five tasks, one with a failure."""
    making: Any = import_module("tests.helpers.making")

    making.four_runs(
        out,
        excerpt={
            "question": "What is the passkey?",
            "begin": "A passkey is hidden in the following text. The grass is green. The sky is blue.",
            "end": "There and back again. The grass is green.",
        },
    )


def terminal(runs: Path) -> str:
    """The terminal's report at 80 columns, as SVG."""
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
    return re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # which would be fetched


def notebook(runs: Path) -> str:
    """What a cell shows, in a frame."""
    import harness

    loaded = harness.load_runs(runs)
    found = harness.compare(loaded[0], runs)
    cells = [
        ('runs = harness.load_runs("runs"); runs', loaded._repr_html_()),
        ("harness.compare(runs[0], runs)", found._repr_html_()),
    ]
    parts = "".join(
        f"<pre style='background:#f3f3f3;padding:8px'>{code}</pre><div>{shown}</div>" for code, shown in cells
    )
    return f"<!doctype html><meta charset=utf-8><body style='font:14px sans-serif;margin:16px'>{parts}"


def main() -> None:
    """Make the runs, the pages, and a picture of each."""
    from harness.cli import invoke

    tool: Any = import_module("tests.helpers.browser")
    program = tool.find()
    if program is None:
        sys.exit("no Chromium on the PATH (Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made_runs(folder / "runs")
        page = folder / "page.html"
        if invoke(
            ["report", str(folder / "runs"), "--out", str(page), "--title", "Four methods on five tasks"]
        ):
            sys.exit("the page could not be made")
        (folder / "terminal.svg").write_text(terminal(folder / "runs"), encoding="utf-8")
        (folder / "notebook.html").write_text(notebook(folder / "runs"), encoding="utf-8")
        browser = tool.Browser(program, folder / "profile")
        IMAGES.mkdir(exist_ok=True)
        for target, width, dark, tall in (
            ("page-light", 1280, False, 1700),
            ("page-dark", 1280, True, 1700),
            ("page-phone", 390, False, 1700),
        ):
            browser.open(page.as_uri(), width, dark=dark)
            browser.screenshot(IMAGES / f"{target}.png", tall)
        browser.open(page.as_uri(), 1280)
        browser.value("document.getElementById('browser').scrollIntoView()")
        browser.value(
            "[...document.querySelectorAll('main > section:not(#samples), header, nav')].forEach(e => e.remove())"
        )
        browser.screenshot(IMAGES / "page-samples.png", 900)
        browser.open((folder / "terminal.svg").as_uri(), 1000)
        browser.screenshot(IMAGES / "terminal.png")
        browser.open((folder / "notebook.html").as_uri(), 1000)
        browser.screenshot(IMAGES / "notebook.png", 1500)
        browser.close()
    print(f"pictures in {IMAGES}")


if __name__ == "__main__":
    main()
