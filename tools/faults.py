"""Faults by the hundred, on a tiny model: kills at random moments, broken files, methods that fail.

    python tools/faults.py                      # everything, some fifteen minutes; prints the table
    python tools/faults.py --write              # and puts its rows into docs/reliability.md
    python tools/faults.py --share 0.05         # a twentieth of it
    python tools/faults.py --only kill          # the rows whose names hold the word

For each fault: the times it was tried; what was lost (samples, items or training steps that were finished once,
and gone after the fault, or missing in the end); duplicated (in a file twice, or asked again although they were
finished; steps before the last checkpoint made again); and wrong (another answer, score, status, weight or byte
than without the fault, or a fault that was not told in one line). A few of each are tried by
`tests/harness/evaluation/test_faults.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from fault_bench import Bench, Row, records
from fault_making import killed, second, torn, unwritable
from fault_signals import folder_goes, full_disk, stopped, told_to_end

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reliability.md"


def killed_run(bench: Bench, row: Row, times: int) -> None:
    """Killed at random moments until it has ended; each start goes on from what is there."""
    while row.tried < times:
        with bench.fresh() as out:
            size = bench.rng.choice(["1", "1", "3"])
            words = bench.words(out, "--batch-size", size)
            before: dict[str, dict[str, Any]] = {}
            while bench.killed(words, row, times, bench):
                now, again = bench.finished(out), bench.again()
                row.lost += len(before.keys() - now.keys())
                row.duplicated += len(before.keys() & again) if size == "1" else 0
                before = now
            if size != "1":  # a batch is asked whole: samples that are finished are read along
                bench.again()
            bench.judge(row, out, before)


def torn_run(bench: Bench, row: Row, times: int) -> None:
    """The file of samples cut off at any byte."""
    for _ in range(times):
        with bench.fresh() as out:
            bench.run(out)
            bench.again()
            samples = bench.folder(out) / "samples.jsonl"
            whole = samples.read_bytes()
            samples.write_bytes(whole[: bench.rng.randrange(len(whole))])
            row.tried += 1
            before = bench.finished(out)
            bench.run(out)
            bench.judge(row, out, before)


def corrupted_run(bench: Bench, row: Row, times: int) -> None:
    """A byte of a line changed: the line is named, and once it is removed its sample runs again."""
    for _ in range(times):
        with bench.fresh() as out:
            shutil.copytree(bench.whole, out / bench.whole.name)
            samples = out / bench.whole.name / "samples.jsonl"
            lines = samples.read_bytes().splitlines(keepends=True)
            at = bench.rng.randrange(bench.samples)
            place = bench.rng.randrange(len(lines[at]) - 1)
            byte = bytes([lines[at][place] ^ 1 << bench.rng.randrange(7)])
            if byte in b"\n\r":
                byte = b"\0"
            broken = lines[at][:place] + byte + lines[at][place + 1 :]
            samples.write_bytes(b"".join([*lines[:at], broken, *lines[at + 1 :]]))
            row.tried += 1
            if bench.wait(bench.start(bench.words(out))) != 2:
                row.bad(f"not noticed: byte {place} of {lines[at]!r} as {byte!r}")
                continue
            bench.told(row, f"line {at + 1} is damaged")
            samples.write_bytes(b"".join([*lines[:at], *lines[at + 1 :]]))
            before = bench.finished(out)
            bench.run(out)
            bench.judge(row, out, before)


def unwritable_run(bench: Bench, row: Row, times: int) -> None:
    """No room, no quota, a read-only or forbidden disk, from some moment on; then all is well again."""
    largest = max(path.stat().st_size for path in bench.whole.rglob("*") if path.is_file())
    while row.tried < times:
        with bench.fresh() as out:
            fault, reason = bench.disk(out, largest)
            status = bench.wait(bench.start(bench.words(out), **fault))
            if status == 0:  # it had ended before the disk was full
                continue
            row.tried += 1
            if status != 2:
                row.bad(f"exit status {status} of {fault}: {bench.errors.read_text()!r}")
            bench.told(row, reason, "cannot be written")
            before = bench.finished(out)
            bench.again()
            bench.run(out)
            bench.judge(row, out, before)


def clock_run(bench: Bench, row: Row, times: int) -> None:
    """The clock goes backwards all the time."""
    for number in range(times):
        with bench.fresh() as out:
            row.tried += 1
            bench.run(out, clock=number + 1)
            bench.again()
            bench.judge(row, out, bench.finished(out))


def second_process(bench: Bench, row: Row, times: int) -> None:
    """A second process on a folder leaves; the first ends well, or is killed and another one takes over."""
    for _ in range(times):
        with bench.fresh() as out:
            first = bench.begun(bench.words(out), lambda: any(out.glob("*/run.json")))
            more = ["--join"] if bench.rng.random() < 0.5 else []
            row.tried += 1
            if bench.wait(bench.start(bench.words(out, *more))) != 2:
                row.bad("the second was let in")
            bench.told(row, "another process is working on")
            before = bench.finished(out)
            if bench.rng.random() < 0.5:
                bench.kill(first)
                bench.again()
                bench.run(out)
            else:
                os.kill(first, signal.SIGCONT)
                if bench.wait(first) != 0:
                    row.bad("the first did not end well")
                bench.asked.unlink()
            bench.judge(row, out, before)


def new_process(bench: Bench, row: Row, times: int) -> None:
    """No fault: the same command in another interpreter, with another seed of its hashes."""
    call = "import sys; from harness.cli import main; sys.argv[0] = 'harness'; main()"
    for number in range(times):
        with bench.fresh() as out:
            row.tried += 1
            known = {
                "OMP_NUM_THREADS": "1",
                "HF_HUB_OFFLINE": "1",
                "HARNESS_CACHE": str(bench.base / "cache"),
            }
            environment = {**os.environ, **known, "PYTHONHASHSEED": str(number), "ASKED": str(bench.asked)}
            command = [sys.executable, "-c", call, *bench.words(out)]
            subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True, timeout=600)
            bench.asked.unlink()
            bench.judge(row, out, bench.finished(out))


def joined_runs(bench: Bench, row: Row, times: int) -> None:
    """Three processes share a run and one after another is killed; what is left finishes it."""
    while row.tried < times:
        with bench.fresh() as out:
            words = bench.words(out, "--join")
            workers = [bench.start(words) for _ in range(3)]
            kills = bench.rng.randint(1, 3)
            for _ in range(kills):
                time.sleep(bench.rng.uniform(0, 0.5 * bench.seconds))
                victim = workers.pop(bench.rng.randrange(len(workers)))
                if not bench.ended(victim):
                    bench.kill(victim)
                    row.tried += 1
                if bench.rng.random() < 0.3 or not workers:
                    workers.append(bench.start(words))
            for pid in workers:
                if bench.wait(pid) != 0:
                    row.bad(f"a worker: {bench.errors.read_text()!r}")
            asked = bench.asked.read_text().split()
            row.duplicated += max(
                0, len(asked) - bench.samples - kills
            )  # only what was in flight is asked twice
            before = bench.finished(out)
            bench.again()
            if bench.wait(bench.start(words)) != 0:  # all may have been killed
                row.bad(f"the last: {bench.errors.read_text()!r}")
            bench.judge(row, out, before)
            order = [r["id"] for r in records(bench.folder(out))]
            if order != list(bench.truth):
                row.bad(f"order {order}")


def failing(faults: tuple[str, ...], status: str) -> Callable[[Bench, Row, int], None]:
    """Some samples meet a method that fails in one of these ways; they say so, the others do not notice."""

    def study(bench: Bench, row: Row, times: int) -> None:
        for _ in range(times):
            with bench.fresh() as out:
                hit = bench.rng.sample(list(bench.truth), bench.rng.randint(1, 2))
                names = ",".join(bench.names[id] for id in hit)
                size, fault = str(bench.rng.choice([1, 3])), bench.rng.choice(faults)
                row.tried += 1
                environment = {"FAULT": fault, "ROWS": names}
                # Far more than a sample takes, on a busy machine too: a limit ends whatever is slow.
                limit = ["--sample-timeout", "2"] if status == "timeout" else []
                bench.run(out, *limit, "--batch-size", size, status=1, environment=environment)
                for record in records(bench.folder(out)):
                    if record["status"] != (status if record["id"] in hit else "ok"):
                        row.bad(f"{fault}: {record['id']} {record['status']} {record.get('error')}")
                shown = json.loads((bench.folder(out) / "run.json").read_text())["summary"]["tasks"][0]
                if shown["statuses"] != {"ok": bench.samples - len(hit), status: len(hit)}:
                    row.bad(f"{fault}: the summary says {shown['statuses']}")
                before = bench.finished(out)
                bench.again()
                bench.run(out, "--batch-size", size)
                if size != "1":  # a batch is asked whole: samples that are finished are read along
                    bench.again()
                bench.judge(row, out, before)

    return study


STUDIES: dict[str, tuple[Callable[[Bench, Row, int], None], int]] = {
    "kill: evaluation": (killed_run, 150),
    "kill: one of three joined": (joined_runs, 80),
    "kill: data generation": (killed("data generation"), 60),
    "kill: training": (killed("training"), 40),
    "a second process: evaluation": (second_process, 10),
    "a second process: data generation": (second("data generation"), 6),
    "a second process: training": (second("training"), 6),
    "disk full, read-only, forbidden: evaluation": (unwritable_run, 40),
    "disk full, read-only, forbidden: data generation": (unwritable("data generation"), 20),
    "disk full, read-only, forbidden: training": (unwritable("training"), 15),
    "a disk that is really full: evaluation": (full_disk, 6),
    "told to end (SIGTERM, SIGHUP, SIGINT): evaluation": (told_to_end, 30),
    "stopped for a while (SIGSTOP): evaluation": (stopped, 6),
    "folder deleted, moved, linked, cut in mid-run": (folder_goes, 8),
    "file cut off at any byte: evaluation": (torn_run, 20),
    "file cut off at any byte: data generation": (torn("data generation"), 15),
    "file cut off at any byte: training": (torn("training"), 10),
    "one byte of a line changed": (corrupted_run, 40),
    "clock runs back": (clock_run, 10),
    "method raises": (failing(("raises",), "error"), 10),
    "method hangs": (failing(("hangs", "hangs_asleep"), "timeout"), 8),
    "wrong number of answers": (
        failing(("answers_nothing", "answers_one_less", "answers_none", "answers_twice"), "error"),
        16,
    ),
    "out of memory": (failing(("fills_memory", "fills_pythons_memory"), "oom"), 10),
    "NaN logits": (failing(("computes_nan",), "error"), 10),
    "no fault: a new process": (new_process, 4),
}


def study(base: Path, share: float, only: Sequence[str], seed: int, say: Callable[[Row], None]) -> list[Row]:
    """Try the faults whose names hold a word of `only`, so many of each times `share`; `say` is told each row."""
    bench, rows = Bench(base, seed), []
    try:
        for name in STUDIES:
            if any(word in name for word in only):
                rows.append(tried(bench, name, share))
                say(rows[-1])
    finally:
        bench.close()
    return rows


def tried(bench: Bench, name: str, share: float) -> Row:
    """One fault, as often as usual times `share`, at least once."""
    row = Row(name)
    carry_out, times = STUDIES[name]
    times = max(1, round(times * share))
    bench.left = 10 * times + 20
    try:
        carry_out(bench, row, times)
    except RuntimeError as error:
        row.bad(str(error))
    return row


def table(rows: Iterable[Row]) -> str:
    """The rows in Markdown."""
    head = "| fault | times tried | lost | duplicated | wrong |\n| --- | ---: | ---: | ---: | ---: |\n"
    lines = [f"| {r.fault} | {r.tried} | {r.lost} | {r.duplicated} | {r.wrong} |\n" for r in rows]
    return head + "".join(lines)


def write_page(rows: Iterable[Row]) -> None:
    """Put the rows into the page's table; those of other faults stay as they are there."""
    text = PAGE.read_text(encoding="utf-8")
    before, begin, rest = text.partition("<!-- faults -->\n")
    old, end, after = rest.partition("<!-- /faults -->\n")
    if not (begin and end):
        raise SystemExit("docs/reliability.md has no <!-- faults --> ... <!-- /faults -->")
    known = {row.fault: row for row in [*shown(old), *rows]}
    found = [known[name] for name in STUDIES if name in known]
    PAGE.write_text(before + begin + table(found) + end + after, encoding="utf-8")


def shown(text: str) -> list[Row]:
    """The rows of a table that `table` made."""
    cells = [line.split("|")[1:-1] for line in text.splitlines()[2:]]
    return [Row(name.strip(), int(a), int(b), int(c), int(d)) for name, a, b, c, d in cells]


def main() -> int:
    """Print the table; the exit status is 1 if anything was lost, duplicated or wrong."""
    parser = argparse.ArgumentParser(description="Faults by the hundred, on a tiny model.")
    parser.add_argument("--share", type=float, default=1.0, help="of the usual number of tries")
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="words of the rows wanted")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="also write the rows into docs/reliability.md")
    args = parser.parse_args()
    print(table([]), end="", flush=True)

    def say(row: Row) -> None:
        print(table([row]).splitlines()[-1], flush=True)
        for note in row.notes[:5]:
            print(f"    {note[:300]}", file=sys.stderr, flush=True)
        if args.write:
            write_page([row])

    with tempfile.TemporaryDirectory() as base:
        rows = study(Path(base), args.share, args.only, args.seed, say)
    return int(any(row.lost or row.duplicated or row.wrong for row in rows))


if __name__ == "__main__":
    sys.exit(main())
