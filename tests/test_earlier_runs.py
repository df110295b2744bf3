"""Run folders of an earlier version are resumed, reported and compared without a difference.

The two in ``tests/golden/earlier_runs`` were made on the tiny model by the commit that `COMMIT` names, with
``harness run -m plain`` and ``-m two_pass --interval 32``; ``compare.json`` and ``report.json`` are what that commit
printed of them, but for what is said of intervals, and the score's in the figures (one number has one interval now).
"""

import json
import shutil
import zlib
from pathlib import Path

import pytest

from harness import UsageError, load_runs
from harness.cli import invoke
from harness.contracts import SampleRecord
from harness.evaluation import RunSettings, execute, plan_run
from harness.results.run_folder import folder_name

from .helpers.running import Watcher, one_thread

EARLIER = Path(__file__).parent / "golden" / "earlier_runs"
COMMIT = "c6e3aa81f8dfd940e3184ac418654ad3be3ab19f"
CHANGING = ("cost", "crc32", "text_hash", "excerpt")
"""What no run has twice (its times, the checksum over them), and what earlier versions did not write."""


@pytest.fixture
def runs(tmp_path):
    """Copies of the folders, as somebody has them who installs this version."""
    return Path(shutil.copytree(EARLIER, tmp_path / "runs"))


def folders(runs):
    return [path for path in sorted(runs.iterdir()) if path.is_dir()]


def test_they_are_what_they_say(runs):
    for path in folders(runs):
        content = json.loads((path / "run.json").read_text())
        assert content["environment"]["commit"] == COMMIT and content["status"] == "finished"


def test_every_line_says_the_same_when_it_is_written_again(runs):
    for path in folders(runs):
        for line in (path / "samples.jsonl").read_text("utf-8").splitlines():
            fields = json.loads(line)
            fields.pop("crc32")
            again = SampleRecord.from_json(fields).to_json()
            assert again == fields and list(again) == list(fields)


@pytest.mark.parametrize("what", ["compare", "report"])
def test_what_is_printed_of_them_is_the_same(runs, capsys, what):
    assert invoke([what, *map(str, folders(runs)), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out.replace(f"{runs}/", "RUNS/"))
    assert shown == json.loads((runs / f"{what}.json").read_text("utf-8"))


def test_one_of_an_earlier_version_of_its_method_is_another_run(runs, tiny_folder, tiny):
    """`two_pass` is at version 3 now: what it would answer may differ, so nothing is mixed."""
    [path] = [path for path in folders(runs) if path.name.startswith("two_pass")]
    assert json.loads((path / "run.json").read_text("utf-8"))["identity"]["method_version"] == "2"
    wanted = RunSettings("two_pass", {"interval": "32"}, model=str(tiny_folder), device="cpu", out=runs)
    assert plan_run(wanted).folder.path != path


@pytest.mark.parametrize("method", ["plain"])
def test_they_are_found_and_resumed(runs, tiny_folder, tiny, method):
    [path] = [path for path in folders(runs) if path.name.startswith(method)]
    content = json.loads((path / "run.json").read_text("utf-8"))
    identity = content["identity"]
    assert folder_name(method, "tiny", identity) == path.name
    same = identity["model_hash"] == tiny.content_hash and identity["tokenizer_hash"] == tiny.tokenizer_hash
    if not same:  # other releases of torch and tokenizers draw and train another tiny model
        identity |= {"model_hash": tiny.content_hash, "tokenizer_hash": tiny.tokenizer_hash}
        path = path.rename(path.with_name(folder_name(method, "tiny", identity)))
        (path / "run.json").write_text(json.dumps(content))
    lines = (path / "samples.jsonl").read_text("utf-8").splitlines(keepends=True)
    (path / "samples.jsonl").write_text("".join(lines[:-1]), "utf-8")
    grid = {"passkey": {"lengths": "190,288", "depths": "0,100"}}
    wanted = RunSettings(method, task_settings=grid, model=str(tiny_folder), device="cpu", out=runs)
    plan = plan_run(wanted)
    assert plan.folder.path == path
    if not same:
        return
    with one_thread():
        assert execute(plan, Watcher()).ran == 1
    now = (path / "samples.jsonl").read_text("utf-8").splitlines(keepends=True)
    assert now[:-1] == lines[:-1]
    last, before = (
        {k: v for k, v in json.loads(x).items() if k not in CHANGING} for x in (now[-1], lines[-1])
    )
    assert last["details"].keys() == before["details"].keys()
    assert {**last, "details": None} == {**before, "details": None}
    assert load_runs(path)[0].n_ok == 4


@pytest.mark.parametrize("same_protocol", [False, True])
def test_a_line_of_another_run_is_named(runs, tiny_folder, tiny, same_protocol, capsys):
    """Checksums of earlier versions name no run: what is known of a run tells that a line is none of it."""
    other, path = (
        next(p for p in folders(runs) if p.name.startswith(name)) for name in ("two_pass", "plain")
    )
    lines = (path / "samples.jsonl").read_text("utf-8").splitlines(keepends=True)
    foreign = (other / "samples.jsonl").read_text("utf-8").splitlines(keepends=True)[2]
    if same_protocol:  # as of a method that does not see the question, such as beacon
        text = foreign.rpartition(', "crc32"')[0].replace("query-aware", "query-agnostic") + "}"
    else:
        text = foreign.rpartition(', "crc32"')[0].replace('"limit": 7170', '"limit": 226') + "}"
    foreign = f'{text[:-1]}, "crc32": "{zlib.crc32(text.encode()):08x}"}}\n'
    (path / "samples.jsonl").write_text("".join([*lines[:2], foreign, *lines[3:]]), "utf-8")
    for verb in (["report", str(path)], ["compare", str(path), str(other)]):
        assert invoke(verb) == 2
        said = capsys.readouterr().err
        assert f"the line of passkey {json.loads(foreign)['id']} is of another run" in said
        assert ("7,170 tokens" if same_protocol else "query-aware") in said and len(said.splitlines()) == 1
    content = json.loads((path / "run.json").read_text("utf-8"))
    content["identity"] |= {"model_hash": tiny.content_hash, "tokenizer_hash": tiny.tokenizer_hash}
    (path / "run.json").write_text(json.dumps(content))
    here = path.rename(path.with_name(folder_name("plain", "tiny", content["identity"])))
    grid = {"passkey": {"lengths": "190,288", "depths": "0,100"}}
    wanted = RunSettings("plain", task_settings=grid, model=str(tiny_folder), device="cpu", out=runs)
    with pytest.raises(UsageError, match=r"is of another (run|text)|another text"):
        execute(plan_run(wanted), Watcher())
    assert (here / "samples.jsonl").read_text("utf-8").count("\n") == len(lines), "and nothing is thrown away"


def test_a_line_of_an_earlier_version_is_none_of_a_run_of_this_one(runs, tiny_folder, tmp_path):
    grid = {"passkey": {"lengths": "190,288", "depths": "0,100"}}
    wanted = RunSettings(
        "plain", task_settings=grid, model=str(tiny_folder), device="cpu", out=tmp_path / "new"
    )
    with one_thread():
        folder = execute(plan_run(wanted), Watcher()).folder
    lines = folder.samples_path.read_text("utf-8").splitlines(keepends=True)
    [other] = [p for p in folders(runs) if p.name.startswith("plain")]
    foreign = (other / "samples.jsonl").read_text("utf-8").splitlines(keepends=True)[1]
    folder.samples_path.write_text("".join([lines[0], foreign, *lines[2:]]), "utf-8")
    for reader in (lambda: load_runs(folder.path), lambda: execute(plan_run(wanted), Watcher())):
        with pytest.raises(
            UsageError, match=r"line 2 is damaged \(its checksum is another, or it is of another run"
        ):
            reader()


def test_a_run_that_an_earlier_version_began_keeps_its_lines(runs, tiny_folder, tiny):
    """What is added names the run; what was there does not, so the run does not claim that all do."""
    [path] = [path for path in folders(runs) if path.name.startswith("plain")]
    content = json.loads((path / "run.json").read_text("utf-8"))
    if content["identity"]["model_hash"] != tiny.content_hash:
        pytest.skip("other releases of torch and tokenizers draw and train another tiny model")
    lines = (path / "samples.jsonl").read_text("utf-8").splitlines(keepends=True)
    (path / "samples.jsonl").write_text("".join(lines[:-1]), "utf-8")
    grid = {"passkey": {"lengths": "190,288", "depths": "0,100"}}
    wanted = RunSettings("plain", task_settings=grid, model=str(tiny_folder), device="cpu", out=runs)
    with one_thread():
        execute(plan_run(wanted), Watcher())
    assert "lines_name_run" not in json.loads((path / "run.json").read_text("utf-8"))
    assert load_runs(path)[0].n_ok == 4
