"""``harness lm-eval``: lm-eval's own command line, with the methods as its model ``harness``.

lm-eval 0.4.13 finds models of other packages only if somebody has named them to its registry before; this
verb does that and nothing else. Later versions read the entry point ``lm_eval.models`` and need no verb.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import rich_click as click


@contextmanager
def _git_quietly() -> Iterator[None]:
    """lm-eval asks git which commit it stands in; outside a repository git would complain on standard error.

    Only what git says is dropped: that it failed is seen by lm-eval, which then records no commit.
    """
    from lm_eval.loggers import utils

    real = getattr(utils, "subprocess", None)
    if real is None:  # another version
        yield
        return
    quiet = SimpleNamespace(**vars(real))
    quiet.check_output = partial(real.check_output, stderr=real.DEVNULL)
    utils.subprocess = quiet
    try:
        yield
    finally:
        utils.subprocess = real


@click.command("lm-eval", add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def lmeval(words: tuple[str, ...]) -> int:
    """Run lm-eval's command line: `harness lm-eval run --model harness --model_args method=... --tasks ...`."""
    from ..interop.lm_eval_names import check_words

    check_words(words)
    from lm_eval.__main__ import cli_evaluate

    from ..interop.lm_eval_model import register

    register()
    before = sys.argv
    sys.argv = ["lm-eval", *(words or ("--help",))]
    try:
        with _git_quietly():
            cli_evaluate()
    finally:
        sys.argv = before
    return 0
