"""The command line: a file a verb, imported only when that verb is typed."""

from __future__ import annotations

import codecs
import errno
import importlib
import io
import os
import signal
import sys
from pathlib import Path

import rich_click as click

from .._util.quiet import hush_libraries, hush_warnings
from ..console.quiet import quietly
from ..errors import HarnessError
from ._once import heed

VERBS = {
    "run": "Run a method on tasks and show its scores, its compression and its cost.",
    "report": "Show finished runs as tables and figures: terminal, Markdown, LaTeX, CSV, JSON or a page.",
    "view": "Show a folder of runs in a browser, refreshed while runs go on.",
    "reproduce": "Run a paper's table again, beside the published values.",
    "list": "List methods, tasks, recipes, reports, suites or models with their options.",
    "compare": "Tell whether a run is better or worse than a baseline, or cannot be told from it.",
    "fit": "Train or calibrate a method on data; the result is an adapter folder.",
    "synth": "Generate synthetic long-context data with the model itself.",
    "score": "Score predictions made anywhere, without a model.",
    "export": "Write runs as Parquet, Excel, lm-eval's or inspect's files, or send them to the Hub.",
    "import": "Make a run of what lm-eval, kvpress or LongBench's own code has written.",
    "data": "Show prompts, and fetch data and models.",
    "lm-eval": "Run lm-eval's own command line, with the methods as its model `harness`.",
    "new": "Write a package of your own: a method, task, recipe or report that runs at once.",
    "check": "Try whether a method or a task keeps to its contract, on a tiny model.",
    "doctor": "Show what a run will find here: versions, memory, what is missing.",
}

RESUMES = {
    "run": "; the same command resumes where it stopped",
    "reproduce": "; the same command resumes where it stopped",
    "synth": "; the same command resumes where it stopped",
    "fit": "; the same command goes on from the last checkpoint, see --save-every",
}
"""What Ctrl-C leaves of verbs that take a while; the others are quick to repeat."""

ODD_PATH = frozenset(
    (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS)
)
"""What only a path that somebody named can be the reason of, wherever it was noticed."""

ONLY_HELP = "harness.only_help"


class Verbs(click.RichGroup):
    """Verbs by name. Helping with the list of them imports none of them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[ONLY_HELP] = not args or args[0] in ctx.help_option_names
        _only_text(args)
        if args and args[0] != "lm-eval":
            _no_empty_words(args)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*VERBS]  # `list` is this package's module, once that was imported

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        if ctx.meta.get(ONLY_HELP):
            return click.Command(name, help=VERBS[name])
        plain = "import_" if name == "import" else name.replace("-", "")
        module = importlib.import_module(f".{plain}", __package__)
        command: click.Command = getattr(module, "list_" if name == "list" else plain)
        return command if name == "lm-eval" else heed(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from ..errors import unknown_name

        if args and args[0] not in VERBS:
            raise unknown_name("command", args[0], VERBS)
        return super().resolve_command(ctx, args)


def _only_text(args: list[str]) -> None:
    """Refuse bytes that are no text: they could not be written into a record of what was asked."""
    from ..errors import UsageError

    for word in args:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{word!r} is no UTF-8 text; rename it, or give another path") from None


def _no_empty_words(args: list[str]) -> None:
    """Refuse what a variable that is not set leaves behind: an empty path would be the folder one stands in."""
    from ..errors import UsageError

    for before, word in zip(["", *args], args):
        flag, equals, value = word.partition("=")
        if equals and not value and flag.startswith("--"):
            raise UsageError(f"{flag}: the value is empty; leave {flag} out, or give one")
        if not word and before.startswith("-"):
            raise UsageError(f"{before}: the value is empty; leave {before} out, or give one")
        if not word:
            raise UsageError(f"an empty word after {before!r}: a variable of the shell that is not set?")


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="long-context-harness", prog_name="harness")
def cli() -> None:
    """Evaluate any long-context method, with every number proven by measurement."""


def main() -> None:
    """Entry point: whatever the user got wrong is one line on standard error, and exit status 2."""
    hush_libraries()  # before any of them is imported
    hush_warnings()
    _write_what_can_be_written()
    heed_signals()
    sys.exit(invoke(sys.argv[1:]))


def _write_what_can_be_written() -> None:
    """Let an output that is not UTF-8 show ``?`` for what it has no character for, where it would end the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and codecs.lookup(stream.encoding).name != "utf-8":
            stream.reconfigure(errors="replace")


_told: list[int] = []
"""The signal that told this process to end."""


def heed_signals() -> None:
    """Leave in order when told to end (SIGTERM), or when the terminal goes (SIGHUP), unless that was to be ignored."""

    def end(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # once is enough: what is left in order takes a moment
        _told.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, end)


def invoke(args: list[str]) -> int:
    """Run one command line and return its exit status; with HARNESS_DEBUG=1 tracebacks are shown."""
    debug = os.environ.get("HARNESS_DEBUG") == "1"
    stdout = sys.stdout  # --json turns it to standard error
    try:
        with quietly(False):
            return _status(args, debug)
    finally:
        sys.stdout = stdout


def _status(args: list[str], debug: bool) -> int:
    try:
        status = cli.main(args=args, prog_name="harness", standalone_mode=False, obj=args)
        return int(status) if isinstance(status, int) else 0
    except click.ClickException as error:
        return complain(error.format_message(), 2)
    except HarnessError as error:
        if debug:
            raise
        return complain(str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        number = _told[-1] if _told else signal.SIGINT  # click makes another exception of it
        told = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
        return complain(f"{told}{RESUMES.get(args[0], '') if args else ''}", 128 + number)
    except SystemExit as error:  # rich-click leaves this way once it has printed help
        return error.code if isinstance(error.code, int) else 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            raise
        if isinstance(error, OSError) and error.filename is not None and _path_is_odd(error, args):
            return complain(f"{error.filename}: {os.strerror(error.errno or 0)}", 2)
        return complain(
            f"unexpected {type(error).__name__}: {' '.join(str(error).split())[:500]} "
            "(a defect of the harness; HARNESS_DEBUG=1 shows where)",
            1,
        )


def _path_is_odd(error: OSError, args: list[str]) -> bool:
    """Whether a path is the reason that only somebody who named it can mend, or lies in one that was named here."""
    if error.errno in ODD_PATH:
        return True
    words = [word.partition("=")[2] or word for word in args]
    named = [Path(word).absolute() for word in words if os.sep in word and "\0" not in word]
    return any(Path(os.fsdecode(error.filename)).absolute().is_relative_to(path) for path in named)


def complain(message: str, status: int) -> int:
    """Print one line to standard error; returns `status`."""
    from ..console.safe_text import visible

    sys.stderr.write(f"harness: {visible(' '.join(message.split()))}\n")
    return status
