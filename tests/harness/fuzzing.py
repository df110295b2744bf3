"""What the fuzzers share: how often they try, what they throw, and what may come of it."""

import contextlib
import io
import json
import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from harness.cli import invoke

TIMES = int(os.environ.get("HARNESS_FUZZ", "1"))
"""How many times as long as in an everyday test run; above 1 the examples are other ones each time."""


def tried(examples):
    """Settings of a fuzzer that tries so many examples in an everyday test run."""
    return settings(
        max_examples=examples * TIMES,
        deadline=None,
        derandomize=TIMES == 1,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


TEXT = st.text(max_size=12).filter(lambda text: "\0" not in text)
NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([0, 1, -1, 2**63, 10**30])).map(str)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)
)
DEEP = b"[" * 3_000
LINES = st.one_of(JSON.map(lambda value: json.dumps(value).encode()), st.binary(max_size=40), st.just(DEEP))


def refused_or_done(words, status=(0, 2)):
    """Call the command line; returns its standard output and its standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        found = invoke([str(word) for word in words])
    said = err.getvalue()
    assert found in status, said
    assert "Traceback" not in said and len(said.splitlines()) == (1 if found else 0), said
    return out.getvalue(), said


@contextlib.contextmanager
def folder():
    """An empty folder for one example."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)
