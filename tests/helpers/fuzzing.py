"""What the fuzzers share: how often they try, what they throw, and what may come of it."""

import contextlib
import copy
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


# --- documents that are almost right


def places(value, where=()):
    """Every key and every place in a list, however deep."""
    rows = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in rows:
        yield (*where, key)
        yield from places(inner, (*where, key))


NASTY = (
    *(
        "../../up",
        "/etc/passwd",
        "\x1b[31mred\x1b]0;title\x07",
        "<script>",
        "${x}",
        "${mha}",
        "fit:",
        "fit:rp_la",
    ),
    *(
        "{ratio}",
        "longbench",
        "longbench/qasper",
        "passkey",
        "x/",
        ":",
        "",
        " ",
        "nan",
        "none",
        "auto",
        "smollm2",
    ),
    *(
        "lora_experts",
        "plain",
        "kvpress:x",
        "a\0b",
        "\ud800",
        "." * 300,
        2**63,
        10**400,
        -1,
        0,
        1.5,
        float("nan"),
    ),
    *(float("inf"), True, None, [], {}, [[]], {"a": None}, {1: 2}, [None], ["longbench/trec", 7], {"": ""}),
)
VALUES = st.one_of(st.sampled_from(NASTY), st.sampled_from(NASTY), JSON)
KEYS = st.one_of(
    st.sampled_from(["", "name", "label", "method", "a/b", "../x", "\x1b[2J", 1, None, True]), TEXT
)
ACTIONS = st.sampled_from(["value", "value", "value", "rename", "remove", "copy", "add"])


FREE = {
    "vars",
    "settings",
    "options",
    "fit_options",
    "defaults",
    "matrix",
    "models",
    "quick",
    "adapter",
    "only",
    "where",
}
"""Where the schema leaves most to say, so that most comes through to the planner."""


def change(draw, content):
    """One change somewhere in a document, more often than not where the schema leaves most to say."""
    found = list(places(content))
    free = [where for where in found if FREE & {*where}]
    where = draw(st.sampled_from(free if free and draw(st.integers(0, 3)) else found or [()]))
    if not where:
        return
    parent = content
    for key in where[:-1]:
        parent = parent[key]
    last = where[-1]
    action = draw(ACTIONS)
    if action == "value":
        parent[last] = copy.deepcopy(draw(VALUES))
    elif action == "remove":
        del parent[last]
    elif action == "copy":
        source = content
        for key in draw(st.sampled_from(found)):
            source = source[key]
        parent[last] = copy.deepcopy(source)
    elif isinstance(parent, list):
        parent.insert(last, copy.deepcopy(draw(VALUES)))
    elif action == "rename":
        parent[draw(KEYS)] = parent.pop(last)
    else:
        parent[draw(KEYS)] = copy.deepcopy(draw(VALUES))


PIECES = st.one_of(
    st.sampled_from(
        [
            *(
                "!!python/object/apply:os.system [touch pwned]",
                "!!python/name:os.system",
                "!!binary aGk=",
                "!!set {a}",
            ),
            *(
                "&a [*a]",
                "*a",
                "&a",
                "<<: *a",
                "? [a]: b",
                "---",
                "...",
                "%YAML 9.9",
                "\t",
                "- ",
                "{",
                "[",
                "'",
                '"',
            ),
            *(
                "2001-99-99",
                "2001-01-01",
                "0x" + "f" * 4000,
                "9" * 5000,
                ".nan",
                "-.inf",
                "1e999",
                '"\\0"',
                '"\\uD800"',
            ),
            *(
                "[" * 2000,
                "{a: " * 400,
                "a: " * 400,
                "\x1b[31m",
                "\ufeff",
                "\u2028",
                "name: x",
                "vars: {a: '${b}'}",
            ),
        ]
    ),
    TEXT,
)
