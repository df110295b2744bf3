"""A suite file in which anything stands: a plan, or one line and exit 2; nothing is written, run or sent along."""

import json
import re
import shutil

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from harness import UsageError
from harness.inference.throughput import Speed
from harness.suites import document

from ...helpers.fuzzing import JSON, PIECES, change, folder, refused_or_done, tried

# Cut short, those of the extension lose what shortens their texts for a small model: a million tokens each.
NAMES = sorted(set(document.names()) - {"he-2025", "selflong"})
ROW = {
    "_id": "1",
    "context": "Ada signed it. " * 20,
    "input": "Who?",
    "answers": ["Ada"],
    "all_classes": ["Ada"],
}
SETS = ("qasper", "hotpotqa", "multifieldqa_en", "trec")


@pytest.fixture(scope="module", autouse=True)
def _plans_only():
    """Suites end where they would begin, and nothing is measured for an estimate."""

    def execute(plan, out, view):
        raise UsageError("planned")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.suites.run.carry_out", execute)
        patch.setattr("harness.inference.throughput.probe", lambda model: Speed(100.0, 10.0))
        patch.setattr("harness.console.progress.LOGGED", float("inf"))  # a slow machine's log is no fault
        patch.delenv("HARNESS_DEBUG", raising=False)
        yield


@pytest.fixture(scope="module")
def here(tiny_folder, tmp_path_factory):
    """The tiny model under the name the suites know, with a window they fit in; and a row of some data sets."""
    base = tmp_path_factory.mktemp("suites")
    model = shutil.copytree(tiny_folder, base / "smollm2")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 4096}))
    for name in SETS:
        (base / f"{name}.jsonl").write_text(json.dumps(ROW) + "\n")
    return base


def tried_file(here, path, *more):
    """Plan a suite's file; neither a control character nor a file may come of it."""
    words = ["run", path, "--device", "cpu", "--offline", "--data-dir", here, "--limit", "1"]
    before, beside = sorted(here.iterdir()), sorted(path.parent.iterdir())
    out, err = refused_or_done([*words, *more, "--out", path.parent / "out"])
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", out + err), (out, err)
    assert sorted(here.iterdir()) == before and sorted(path.parent.iterdir()) == beside
    return out, err


@tried(30)
@given(st.data())
def test_almost_a_suite(here, data):
    """A suite that ships with one to three changes: values of other types, keys renamed, taken away or doubled."""
    content = yaml.safe_load(document.find(data.draw(st.sampled_from(NAMES))).read_text(encoding="utf-8"))
    for _ in range(data.draw(st.integers(1, 3))):
        change(data.draw, content)
    more = data.draw(
        st.sampled_from([["--dry-run"], ["--dry-run", "--json"], ["--dry-run", "--quick"], ["--quiet"]])
    )
    model = data.draw(st.sampled_from([["--model", here / "smollm2"]] * 5 + [[]]))
    with folder() as base:
        path = base / "mine.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        out, _ = tried_file(here, path, *more, *model)
        if out and "--json" in more:
            json.loads(out)


@tried(30)
@given(st.data())
def test_text_that_was_a_suite(here, data):
    """A suite's text with pieces put in, taken out and doubled, or cut short: mostly no YAML, and never more."""
    draw = data.draw
    text = document.find(draw(st.sampled_from(NAMES))).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for _ in range(draw(st.integers(1, 3))):
        row, piece = draw(st.integers(0, len(lines) - 1)), draw(PIECES)
        at = draw(st.integers(0, len(lines[row])))
        how = draw(st.sampled_from(["in", "after", "line", "twice", "away", "cut"]))
        if how in ("in", "after"):
            end = lines[row][at:] if how == "in" else ""
            lines[row] = f"{lines[row][:at]}{piece}{end}"
        elif how == "line":
            lines.insert(row, " " * draw(st.integers(0, 4)) + piece)
        elif how == "twice":
            lines.insert(row, lines[row])
        else:
            lines[row : row + 1 if how == "away" else len(lines)] = [""]
    with folder() as base:
        path = base / "mine.yaml"
        path.write_bytes("\n".join(lines).encode("utf-8", "replace"))
        tried_file(here, path, "--dry-run", "--model", here / "smollm2")


@tried(20)
@given(
    st.one_of(
        st.binary(max_size=60), JSON.map(lambda value: json.dumps(value).encode()), st.text().map(str.encode)
    )
)
def test_anything_at_all(here, data):
    with folder() as base:
        (base / "mine.yaml").write_bytes(data)
        _, err = tried_file(here, base / "mine.yaml", "--dry-run")
        assert "mine.yaml" in err


# --- what a stranger's suite might try, and what a tired hand writes

BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi")
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a suite; it begins with 'name:'"),
        (BOMB, "line 5: more than 100,000 values once its anchors are spelled out"),
        (
            BOMB.replace("[", "{<<: [").replace("]", "]}").replace("[x,x,x,x,x,x,x,x,x,x]", "[{x: 1}]"),
            "more than",
        ),
        ("a: &a [*a]", "line 1: an anchor holds itself"),
        ("name: x\ntitle: y\nname: z", "line 3: the key 'name' is there twice"),
        ("a: " + "[" * 50 + "]" * 50, "line 1: nested too deeply"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        (
            "name: !!python/object/apply:os.system [touch pwned]",
            "could not determine a constructor for the tag",
        ),
        ("name: 2001-99-99", "no YAML: month must be in 1..12"),
        ("name: 2001-01-01", "name: a date is not taken; put it in quotes"),
        ("a: " + "9" * 5000, "no YAML: Exceeds the limit"),
        ("a: 0x" + "f" * 50, "a: a number of more than 64 bits"),
        ("a: {b: .nan}", "a.b: nan is no number to go by"),
        ('a: ["\\0"]', "a.0: a character that no file name and no text may have"),
        ("{yes: 1}", "True: a key must be text; put it in quotes"),
        ("? [a]\n: b", "line 1: a key must be text; put it in quotes"),
        ("a: \xe9".encode("latin-1"), "cannot be read ("),
        (b"\0" * 100, "no YAML: unacceptable character"),
        (b"#" * (2**20 + 1), "larger than 1 MiB"),
    ],
    ids=range(19),
)
def test_files_that_are_refused(here, tmp_path, text, words):
    path = tmp_path / "mine.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    _, err = tried_file(here, path, "--dry-run")
    assert "mine.yaml" in err and words in err


def test_files_that_are_none(here, tmp_path):
    for path, words in ((tmp_path / "away.yaml", "No such file"), (tmp_path, "Is a directory")):
        _, err = refused_or_done(["run", path, "--dry-run"])
        assert str(path) in err and words in err


BASE = {
    "name": "two",
    "title": "Two",
    "settings": {"tasks": ["longbench/qasper"]},
    "cells": {"a": {"label": "A", "method": "plain"}},
    "columns": [{"key": "Avg", "tasks": ["longbench/qasper"]}],
}
FIT = {"method": "beacon", "data": ["rows.jsonl"]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vars": {"a": "${b}", "b": "${a}"}}, "vars.a: a variable cannot use another"),
        ({"vars": {"a": [1]}}, "vars.a: must be text, a number, true or false"),
        ({"models": {"smollm2": {"vars": [1]}}}, "vars: must be a mapping"),
        ({"models": {"smollm2": {"quick": 3}}}, "mine.yaml: quick: must be a mapping"),
        (
            {"cells": {"a": {"matrix": {"max_context": ["abc"]}}}},
            "matrix.max_context: input should be a valid integer",
        ),
        ({"cells": {"a": {"matrix": {"x": [*range(99)], "y": [*range(99)]}}}}, "9,801 runs on"),
        ({"settings": {"seed": []}}, "settings.seed: give at least one value"),
        ({"columns": [{"key": "Avg", "tasks": []}]}, "columns.0.tasks: list should have at least 1 item"),
        ({"columns": [{"key": "Avg", "tasks": ["../up"]}]}, "no task named '..'"),
        ({"name": "../up"}, "name: string should match pattern"),
        (
            {"settings": {"trust_task_code": True}},
            "settings.trust_task_code: only whoever runs a suite may say so",
        ),
        (
            {"settings": {"trust_remote_code": True}},
            "settings.trust_remote_code: only whoever runs a suite may say so",
        ),
        (
            {"cells": {"a": {"settings": {"trust_remote_code": True}}}},
            "settings.trust_remote_code: only whoever",
        ),
        (
            {"cells": {"a": {"matrix": {"trust_remote_code": [True]}}}},
            "matrix.trust_remote_code: only whoever",
        ),
        (
            {"models": {"smollm2": {"settings": {"trust_remote_code": True}}}},
            "settings.trust_remote_code: only",
        ),
        (
            {"fits": {"f": {**FIT, "settings": {"trust_remote_code": True}}}},
            "settings.trust_remote_code: only",
        ),
        (
            {"fits": {"f": {**FIT, "settings": {"trainer": {"push_to_hub": True}}}}},
            "settings.trainer: arguments",
        ),
        (
            {"fits": {"f": {**FIT, "adapter": "fit:f"}}, "cells": {"a": {"adapter": "fit:f"}}},
            "fit f: no other fit named 'f'",
        ),
        (
            {
                "fits": {"f": {**FIT, "adapter": "fit:g"}, "g": {**FIT, "adapter": "fit:f"}},
                "cells": {"a": {"adapter": "fit:f"}},
            },
            "fit f: goes on from 'g', which waits for it",
        ),
        ({"cells": {"a": {"adapter": "fit:../up"}}}, "no fit (of cell a) named '../up'"),
        ({"cells": {"a": {"method": "../up"}}}, "no method named '../up'"),
        ({"settings": {"model": "x" * 300}}, "File name too long"),
    ],
    ids=range(22),
)
def test_suites_that_are_refused(here, tmp_path, changes, words):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(document.merged(BASE, changes)))
    model = [] if "model" in changes.get("settings", {}) else ["--model", here / "smollm2"]
    _, err = tried_file(here, path, "--dry-run", *model)
    assert words in err


def test_labels_do_not_steer_a_terminal(here, tmp_path, monkeypatch):
    """In the plan, in what is said of a failure, and in the table."""
    evil = "\x1b[31mred\x07"
    changes = {"title": evil, "cells": {"a": {"label": evil}, "b": {"label": evil, "method": "x\x1b"}}}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(document.merged(BASE, changes)))
    out, _ = tried_file(here, path, "--dry-run", "--model", here / "smollm2")
    assert "\\x1b[31mred" in out
