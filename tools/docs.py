"""Write the generated parts of README.md and docs/: what the code says about itself is not typed a second time.

A part stands between ``<!-- generated: NAME -->`` and ``<!-- /generated -->``, in one page only; some have an
argument (``options two_pass``). The JSON schemas in ``docs/schemas`` are written whole, and so is ``PACKAGE.md``.
Run it from anywhere:

    python tools/docs.py            # rewrite the parts
    python tools/docs.py --check    # write nothing; exit 1 if a part is out of date
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PART = re.compile(r"(<!-- generated: ([\w-]+(?: [\w-]+)*) -->\n).*?(<!-- /generated -->)", re.DOTALL)
OURS = "long-context-harness "
PACKAGE = ROOT / "PACKAGE.md"
BENCH = ROOT / "baselines" / "smollm2" / "bench.json"
LAST = "The documentation, with a page for each method and task, is in the folder `docs` of the source distribution.\n"


def main() -> int:
    """Rewrite the pages, or with ``--check`` say which of them that would change."""
    parser = argparse.ArgumentParser(description="Write the generated parts of README.md and docs/.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a part is out of date")
    check = parser.parse_args().check
    old = {path: path.read_text(encoding="utf-8") for path in pages()}
    made = {**rendered(old), **schemas()}
    made[PACKAGE] = package_text(made[ROOT / "README.md"])
    more = [*schemas(), PACKAGE]
    old |= {path: path.read_text(encoding="utf-8") if path.exists() else "" for path in more}
    stale = [(path, text) for path, text in made.items() if text != old[path]]
    for path, text in stale:
        name = path.relative_to(ROOT).as_posix()
        if check:
            lines = difflib.unified_diff(
                old[path].splitlines(), text.splitlines(), name, "generated", lineterm="", n=1
            )
            sys.stdout.write("\n".join(lines) + f"\n{name} is out of date: run python tools/docs.py\n")
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return int(check and bool(stale))


def package_text(readme: str) -> str:
    """The README as an index of packages can show it: without comments, pictures, and links to files beside it."""
    text = re.sub(r"^<!--.*?-->\n", "", readme, flags=re.MULTILINE)
    text = re.sub(r"^!\[.*?\]\(.*?\)\n+", "", text, flags=re.MULTILINE)
    text = re.sub(r"\[([^\]]+)\]\((?!https?://)[^)]*\)", r"\1", text)
    return re.sub(r"\n{3,}", "\n\n", text).rstrip("\n") + "\n\n" + LAST


def schemas() -> dict[Path, str]:
    """The JSON schemas of what a run's folder holds, by file."""
    from harness.results.schemas import SCHEMAS

    folder = ROOT / "docs" / "schemas"
    return {
        folder / f"{name}.schema.json": json.dumps(make(), indent=1) + "\n" for name, make in SCHEMAS.items()
    }


def pages() -> list[Path]:
    """The pages that may have generated parts."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def rendered(old: Mapping[Path, str]) -> dict[Path, str]:
    """The pages with every part made anew. Raises SystemExit for a part that is unknown, missing or there twice."""
    makers = parts()
    found = Counter(match[2] for text in old.values() for match in PART.finditer(text))
    wrong = [f"unknown: {name}" for name in sorted(found.keys() - makers.keys())]
    wrong += [f"in no page: {name}" for name in sorted(makers.keys() - found.keys())]
    wrong += [f"more than once: {name}" for name, times in sorted(found.items()) if times > 1]
    if wrong:
        raise SystemExit("generated parts, " + "; ".join(wrong))
    with ThreadPoolExecutor() as pool:  # most of the time goes into one process for each verb's help
        made = dict(zip(makers, pool.map(lambda make: make(), makers.values())))
    return {
        path: PART.sub(lambda match: f"{match[1]}{made[match[2]]}\n{match[3]}", text)
        for path, text in old.items()
    }


def parts() -> dict[str, Callable[[], str]]:
    """Every part there is, by name, and what makes it."""
    from harness.cli import VERBS

    found: dict[str, Callable[[], str]] = {
        "methods": methods,
        "method-facts": method_facts,
        "tasks": tasks,
        "task-facts": task_facts,
        "recipes": recipes,
        "influences": influences,
        "bench": bench,
    }
    for words in ((), *((verb,) for verb in VERBS), ("data", "show"), ("data", "fetch")):
        found[" ".join(("help", *words))] = partial(help_text, *words)
    for row in listed("methods"):
        for name, field in (("options", "options"), ("fit-options", "fit_options")):
            if row[field]:
                found[f"{name} {row['name']}"] = partial(options, row, flag, field)
    for kind, prefix in (("task", "{0}.{{0}}"), ("recipe", "--set {{0}}=")):
        for row in listed(f"{kind}s"):
            if row["options"]:
                found[f"{kind}-options {row['name']}"] = partial(
                    options, row, prefix.format(row["name"]).format
                )
    return found


def bench() -> str:
    """The last result of ``tools/bench.py`` on the default model, and what it was measured on."""
    found = json.loads(BENCH.read_text(encoding="utf-8"))
    rows = [
        [part, f"{value:.2f}", ", ".join(f"{each[part]:.2f}" for each in found["rounds"])]
        for part, value in found["medians"].items()
    ]
    said = f"{found['model']}, {found['tokens']:,} tokens, {found['dtype']}, {found['device']} "
    said += f"({found['environment']['gpu'] or found['environment'].get('processor') or 'unknown'}), "
    said += f"threads: {found['threads']}, torch {found['environment']['packages']['torch']}"
    return f"{said}.\n\n" + table(["measured", "median", "rounds"], rows)


def help_text(*words: str) -> str:
    """``harness WORDS --help`` as a terminal of 80 columns without colour shows it, in a code block."""
    plain = {"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb", "PYTHONUTF8": "1"}
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "SYSTEMROOT") if name in os.environ}
    command = [sys.executable, "-c", "from harness.cli import main; main()", *words, "--help"]
    shown = subprocess.run(
        command, capture_output=True, encoding="utf-8", env=kept | plain, check=True
    ).stdout
    lines = [line.rstrip() for line in shown.splitlines()]
    return "\n".join(["```text", *"\n".join(lines).strip("\n").splitlines(), "```"])


def influences() -> str:
    """A table of every input of a run: whether it changes answers, and the hash."""
    from harness.evaluation.influences import INFLUENCES

    head = ("input", "kind", "changes answers", "changes the hash", "how")
    rows = [(f"`{r.name}`", r.kind, r.answers, "yes" if r.hashed else "no", r.how) for r in INFLUENCES]
    return table(head, rows)


def methods() -> str:
    """A table of our methods: the name and one line."""
    return table(("method", "what it does"), [described(r) for r in listed("methods")])


def method_facts() -> str:
    """A table of what can be said of every method alike, with links to their pages."""
    return table(
        ("method", "compression sees the question", "trainable"),
        [
            (f"[{code(r['name'])}]({r['name']}.md)", yes(r["sees_question"]), yes(r["trainable"]))
            for r in listed("methods")
        ],
    )


def tasks() -> str:
    """A table of our tasks: the name, one line, and of benchmarks whose code and data they are."""
    told = benchmarks()
    heads = ("task", "what it measures", "code followed", "licence of the data", "judge", "prompts")
    rows = [(*described(r), *told.get(r["name"], ("–",) * 4)) for r in listed("tasks")]
    return table(heads, rows)


def benchmarks() -> dict[str, tuple[str, str, str, str]]:
    """Code, licence of the data, judge and prompts of each benchmark, from the table on the page of tasks.

    A cell of the data says where it lies and, after a semicolon, its licence.
    """
    page = (ROOT / "docs" / "tasks" / "index.md").read_text(encoding="utf-8")
    part = page.partition("\n## Benchmarks")[2].partition("\n## ")[0]
    cells = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in part.splitlines() if line[:1] == "|"
    ]
    return {
        re.sub(r"[\[\]`]|\(.*\)", "", name): (followed, data.partition("; ")[2] or "–", judge, prompts)
        for name, followed, data, judge, prompts in cells[2:]
    }


def task_facts() -> str:
    """A table of the scores and versions of our tasks, and what stands for what."""
    families = []
    for r in listed("tasks"):
        if not r["variants"]:
            continue
        group, others = r["group"], [v for v in r["variants"] if v not in r["group"]]
        line = f"{code(r['name'])} alone runs {len(group)} tasks: {', '.join(map(code, group))}."
        families.append(line + (f" By name only: {', '.join(map(code, others))}." if others else ""))
    rows = [
        (f"[{code(r['name'])}]({r['name']}.md)", ", ".join(r["metrics"]), r["version"])
        for r in listed("tasks")
    ]
    return "\n\n".join([table(("task", "scores (the main one first)", "version"), rows), *families])


def recipes() -> str:
    """A table of our recipes."""
    return table(
        ("recipe", "what it makes", "samples of each task by default"),
        [
            (*described(r), ", ".join(f"{task} {count:,}" for task, count in r["tasks"].items()))
            for r in listed("recipes")
        ],
    )


@cache
def listed(kind: str) -> list[dict[str, Any]]:
    """The rows of what ships with the harness, by name. Raises SystemExit if one cannot be imported."""
    from harness.cli import list as listing

    rows: Iterable[dict[str, Any]] = getattr(listing, kind)()
    found = sorted(rows, key=lambda row: str(row["name"]))
    if broken := [row for row in found if "broken" in row]:
        raise SystemExit(broken[0]["broken"])
    return [row for row in found if str(row["origin"]).startswith(OURS)]


def described(row: Mapping[str, Any]) -> tuple[str, str]:
    """The name of a plugin and its one line."""
    return code(row["name"]), row["description"]


def flag(name: str) -> str:
    """A method's option as it is typed."""
    return f"--{name.replace('_', '-')}"


def options(row: Mapping[str, Any], typed: Callable[[str], str], field: str = "options") -> str:
    """A table of the options of a plugin; `typed` writes one as it is typed."""
    return table(
        ("option", "takes", "default", "meaning"),
        [
            (
                code(typed(option["name"])),
                f"{option['type']}{', ' + option['range'] if option['range'] else ''}",
                default(option["default"]),
                option["description"],
            )
            for option in row[field]
        ],
    )


def default(value: Any) -> str:
    """A default as it is typed; a dash where there is none."""
    if value is None or value in ([], ()):
        return "–"
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def code(text: str) -> str:
    """`text` as Markdown code."""
    return f"`{text}`"


def yes(value: bool) -> str:
    """A truth value in words."""
    return "yes" if value else "no"


if __name__ == "__main__":
    sys.exit(main())
