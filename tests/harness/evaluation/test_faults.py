"""Faults in a run: other processes, methods that hang or compute nonsense, kills by a bounded part of the study.

Of each fault of ``tools/faults.py`` as many tries are made here as `SHARE` of the study's is, at least one: two
dozen in all. A try has a limited number of starts, and what hangs is killed. ``HARNESS_FAULTS=1`` makes all of the
study's; ``python tools/faults.py`` does the same and prints the table of docs/reliability.md.
"""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from harness import UsageError
from harness.cli import invoke
from harness.contracts.record import SampleRecord
from harness.evaluation.plan import plan_run
from harness.evaluation.runner import execute
from harness.evaluation.timeouts import SampleTimeout, limited
from harness.inference import meter
from harness.prompts.rendering import tokenize
from harness.results import shared_run_folder
from harness.results.record_lines import complete_lines, line_of
from harness.results.run_folder import RunFolder

from ...helpers.running import Watcher, answers, by_id, counting, one_thread, settings, with_toy
from ..conftest import TOOLS

SHARE = float(os.environ.get("HARNESS_FAULTS", "0.02"))


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


# --- the study of tools/faults.py, bounded


with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(TOOLS))
    from faults import STUDIES


@pytest.fixture(scope="module")
def bench(tool, forks, tiny_folder, tmp_path_factory):
    return tool("fault_bench").Bench(tmp_path_factory.mktemp("bench"), 1, tiny_folder, forks, small=SHARE < 1)


@pytest.mark.parametrize("fault", [name for name in STUDIES if "no fault" not in name])
def test_a_part_of_the_study(tool, bench, fault):
    row = tool("faults").tried(bench, fault, SHARE)
    assert row.tried and (row.lost, row.duplicated, row.wrong) == (0, 0, 0), row.notes


def test_the_page_shows_the_whole_study(tool):
    study = tool("faults")
    text = study.PAGE.read_text(encoding="utf-8")
    rows = study.shown(text.partition("<!-- faults -->\n")[2].partition("<!-- /faults -->")[0])
    assert [row.fault for row in rows] == list(STUDIES)
    for row in rows:
        assert row.tried >= STUDIES[row.fault][1] and not (row.lost or row.duplicated or row.wrong)


def test_the_study_sees_what_is_wrong(tool, tmp_path):
    fault_bench = tool("fault_bench")
    bench = fault_bench.Bench.__new__(fault_bench.Bench)
    bench.whole, bench.asked, bench.names = (
        tmp_path / "whole" / "run",
        tmp_path / "asked",
        {"a": "1", "b": "2"},
    )
    lines = [{"id": id, "status": "ok", "prediction": id, "cost": {"seconds": 1}} for id in "ab"]
    bench.truth = {line["id"]: line for line in lines}
    spoiled = [{**lines[0], "prediction": "x"}, lines[0]]
    for path, found in ((bench.whole, lines), (tmp_path / "out" / "run", spoiled)):
        path.mkdir(parents=True)
        (path / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in found))
        (path / "run.json").write_text('{"status": "finished", "summary": {"tasks": [{"scores": {}}]}}')
    bench.asked.write_text("2\n")
    row = fault_bench.Row("x")
    bench.judge(row, tmp_path / "out", {"b": lines[1]})
    assert (row.lost, row.duplicated, row.wrong) == (2, 2, 0)
    (tmp_path / "out" / "run" / "samples.jsonl").write_text(json.dumps(spoiled[0]) + "\n")
    bench.judge(row, tmp_path / "out", {})
    assert row.wrong == 1


def test_the_study_sees_what_is_wrong_with_what_is_made(tool, tmp_path):
    """Also a training that begins anew after each kill: its end is right, but what was safe was done twice."""
    making = tool("fault_making")
    row, out, whole = tool("fault_bench").Row("x"), tmp_path / "out", "training/checkpoint-2/whole.json"
    synth = making.DataGeneration.__new__(making.DataGeneration)
    synth.truth = {"data.jsonl": b"1\n", "pool/story.jsonl": b"2\n"}
    fit = making.Training.__new__(making.Training)
    files = {"data.jsonl": "x\n", "pool/other.jsonl": "1\n" * 7, "training/checkpoint-2/model": "weights"}
    files["training/log.jsonl"] = '{"step": 1}\n{"step": 2}\n{"st'
    for name, text in {**files, whole: json.dumps({"model": sha256(b"weights").hexdigest()})}.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text)
    synth.judge(row, out)
    assert (row.lost, row.wrong) == (1, 2)
    assert synth.safe(out) == {f"other {number}" for number in range(4)}, "whole batches only"
    assert fit.safe(out) == fit.done(out) == {"step 1", "step 2"} and fit.done(out) == set()
    (out / "training" / "checkpoint-2" / "model").write_text("torn")
    assert fit.safe(out) == set()


# --- the same command twice


def test_two_processes_give_the_same_bytes(tiny_folder, tmp_path, forks, capsys):
    """Two interpreters, started apart, whose strings hash differently."""
    words = f"run -m beacon --interval 32 --model {tiny_folder} --device cpu --json --limit 2".split()
    told = tmp_path / "told"
    assert forks.wait(forks.start([*words, "--out", str(tmp_path / "a")], tmp_path / "errors", told)) == 0
    assert invoke([*words, "--out", str(tmp_path / "b")]) == 0
    predictions = []
    for text in (told.read_text(), capsys.readouterr().out):
        lines = (Path(json.loads(text)["folder"]) / "samples.jsonl").read_bytes().splitlines()
        predictions.append([{**json.loads(line), "cost": None, "crc32": None} for line in lines])
    assert json.dumps(predictions[0]).encode() == json.dumps(predictions[1]).encode()
    assert len(predictions[0]) == 2 and predictions[0][0]["prediction"]


@pytest.mark.parametrize("changes", [{"batch_size": 2}, {"dtype": "bfloat16"}, {}])
def test_the_table_says_on_what_single_answers_depend(tiny_folder, tmp_path, monkeypatch, changes):
    from harness.console.run_tables import notes

    with_toy(monkeypatch)
    plan = plan_run(settings(tiny_folder, tmp_path, tasks=("toy",), limit=1, **changes))
    shown = " ".join(str(line) for line in notes(execute(plan, Watcher()).summary, plan))
    what = f", {plan.model.dtype}, cpu; another of these may change some answers"
    assert (what in shown) is bool(changes)


# --- several processes


def joined(model, out, **changes):
    return plan_run(settings(model, out, tasks=("toy",), join=True, **changes))


def test_a_joined_run_is_the_run_of_one_process(tiny_folder, tmp_path, monkeypatch):
    with_toy(monkeypatch)
    alone = execute(plan_run(settings(tiny_folder, tmp_path / "alone", tasks=("toy",))), Watcher())
    result = execute(joined(tiny_folder, tmp_path / "joined"), Watcher())
    assert result.folder.path.name == alone.folder.path.name, "joining is no part of what is asked"
    assert list(by_id(result.folder)) == list(by_id(alone.folder))
    assert answers(by_id(result.folder)) == answers(by_id(alone.folder))
    assert not list(result.folder.path.glob("parts*"))
    assert result.folder.read_run()["status"] == "finished"


OTHER = """
import sys
from pathlib import Path
from harness.results.shared_run_folder import SharedRunFolder

class Sample:
    key = ("toy", sys.argv[2])

class Batch:
    samples = [Sample()]

folder = SharedRunFolder(Path(sys.argv[1]), [])
with folder.open():
    folder.recover()
    folder.begin()
    claims = folder.claimed([Batch()])
    next(claims)
    print("claimed", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def other():
    """Start another process that takes a sample of a folder and does nothing with it."""
    started = []

    def start(folder, sample):
        process = subprocess.Popen(
            [sys.executable, "-c", OTHER, str(folder), sample],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "claimed\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_killed_process_leaves_its_sample_to_another(tiny_folder, tmp_path, monkeypatch, other):
    with_toy(monkeypatch)
    plan = joined(tiny_folder, tmp_path)
    holder = other(plan.folder.path, "s1")
    asked = []

    class Killing(Watcher):
        def sample(self, task, record):
            asked.append(record.id)
            if len(asked) == 3:
                holder.send_signal(signal.SIGKILL)

    result = execute(plan, Killing())
    assert asked == ["s0", "s2", "s3", "s1"]
    assert list(by_id(result.folder)) == ["s0", "s1", "s2", "s3"]
    assert result.summary["total"]["n_ok"] == 4 and result.folder.read_run()["status"] == "finished"


def test_alone_and_joined_do_not_mix(tiny_folder, tmp_path, monkeypatch, other):
    with_toy(monkeypatch)
    plan = plan_run(settings(tiny_folder, tmp_path, tasks=("toy",)))
    with plan.folder.open(), pytest.raises(UsageError, match="alone; start all of them with --join"):
        execute(joined(tiny_folder, tmp_path), Watcher())
    other(plan.folder.path, "s1")
    with pytest.raises(UsageError, match="another process is working on"):
        execute(plan_run(settings(tiny_folder, tmp_path, tasks=("toy",))), Watcher())


def test_what_killed_processes_left_is_taken_in(tiny_folder, tmp_path, monkeypatch):
    with_toy(monkeypatch)
    first = execute(joined(tiny_folder, tmp_path), Watcher())
    records = first.folder.records()
    parts = first.folder.path / "parts"
    parts.mkdir()
    first.folder.samples_path.unlink()
    (first.folder.path / "run.json").unlink()
    for name, mine in (("a", records[:2]), ("b", [records[1], replace(records[2], status="error")])):
        for record in mine:
            RunFolder(first.folder.path)._add(parts / f"{name}.jsonl", record)
    with (parts / "b.jsonl").open("a") as file:
        file.write('{"id": "s3", "task": "toy", "sta')
    result = execute(plan_run(settings(tiny_folder, tmp_path, tasks=("toy",))), Watcher())
    assert result.ran == 2 and answers(by_id(result.folder)) == answers({r.id: r.to_json() for r in records})


def test_batches_of_other_shapes_share_no_sample(tmp_path):
    """One process asks in groups, another one by one: what one holds the other cannot have."""

    class Batch:
        def __init__(self, *names):
            self.samples = [type("Sample", (), {"key": ("t", name)})() for name in names]

    folder = shared_run_folder.SharedRunFolder(tmp_path, [])
    with folder.open():
        claims = iter(folder.claimed([Batch("a", "b")]))
        next(claims)
        script = (
            "import fcntl, sys; file = open(sys.argv[1], 'r+')\n"
            "for place in map(int, sys.argv[2:]):\n"
            "    try: fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place); print('free')\n"
            "    except BlockingIOError: print('held')\n"
        )
        places = [str(shared_run_folder._place(("t", name))) for name in "abc"]
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / shared_run_folder.CLAIMS), *places],
            capture_output=True,
            text=True,
        )
        assert done.stdout.split() == ["held", "held", "free"]


# --- methods that hang


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_sample_that_hangs_is_recorded_and_the_others_are_not(
    tiny_folder, tmp_path, monkeypatch, batch_size, capsys
):
    with_toy(monkeypatch)
    network = []

    def before(prompts):
        ids = [tuple(p.ids) for p in prompts]
        if slow in ids:
            network[0].model.register_forward_hook(
                lambda *_: None
            )  # what a method hangs on the model is taken off
            while True:
                time.sleep(0.01)

    own = counting(monkeypatch, before)
    wanted = settings(
        tiny_folder, tmp_path, method="own", tasks=("toy",), batch_size=batch_size, sample_timeout=0.3
    )
    plan = plan_run(wanted)
    slow = tuple(tokenize(plan.samples[1].rendered, plan.model).ids)
    network.append(plan.model.network)
    result = execute(plan, Watcher())
    found = by_id(result.folder)
    assert [r["status"] for r in found.values()] == ["ok", "timeout", "ok", "ok"]
    assert found["s1"]["error"]["message"] == "not answered within 0.3 seconds (--sample-timeout)"
    assert result.failed == 1 and own.calls
    assert not network[0].model._forward_hooks and signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_limit_ends_what_swallows_errors_and_leaves_nothing():
    earlier = signal.getsignal(signal.SIGALRM)
    with pytest.raises(SampleTimeout, match=r"0\.1 seconds"), limited(0.1):
        while True:
            try:
                time.sleep(10)
            except Exception:
                continue
    with limited(5):
        pass
    assert signal.getsignal(signal.SIGALRM) is earlier and signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_limit_that_is_none_is_refused(tiny_folder, tmp_path, capsys):
    words = ["run", "-m", "plain", "--model", str(tiny_folder), "--out", str(tmp_path / "out")]
    for value in ("0", "-1", "nan", "inf"):
        assert invoke([*words, "--sample-timeout", value]) == 2
        assert "--sample-timeout" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# --- numbers that are none


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_logits_that_are_no_numbers_fail_their_sample_only(
    tiny_folder, tmp_path, monkeypatch, value, batch_size
):
    with_toy(monkeypatch)
    spoiled = []

    def before(prompts):
        norm = plan.model.network.model.norm
        rows = [p.ids == third for p in prompts]

        def spoil(module, args, hidden):
            if len(hidden) == len(rows):
                hidden = hidden.clone()
                hidden[torch.tensor(rows)] = value
            return hidden

        for hook in spoiled:
            hook.remove()
        spoiled[:] = [norm.register_forward_hook(spoil)]

    counting(monkeypatch, before)
    plan = plan_run(settings(tiny_folder, tmp_path, method="own", tasks=("toy",), batch_size=batch_size))
    third = tokenize(plan.samples[2].rendered, plan.model).ids
    found = by_id(execute(plan, Watcher()).folder)
    assert [r["status"] for r in found.values()] == ["ok", "ok", "error", "ok"]
    assert "logits are not finite (NaN or infinity)" in found["s2"]["error"]["message"]
    assert found["s2"]["error"]["type"] == "NotFiniteError" and "prediction" not in found["s2"]


def test_sums_of_sixteen_bits_do_not_overflow():
    seen = meter.Meter()
    seen.chosen(torch.full((1, 4, 2000), 60_000.0, dtype=torch.float16))
    assert seen.finite
    seen.chosen(torch.tensor([[1.0, float("-inf")]]))
    seen.chosen(torch.ones(1, 2))
    assert not seen.finite


# --- lines


def test_a_line_that_was_changed_is_noticed(tiny_folder, tmp_path, monkeypatch, capsys):
    """Also where it is JSON still: a digit of a score is enough."""
    with_toy(monkeypatch)
    folder = execute(plan_run(settings(tiny_folder, tmp_path, tasks=("toy",))), Watcher()).folder
    whole = folder.samples_path.read_bytes()
    for was, now, why in (
        (b'"score": 1.0', b'"score": 0.0', "its checksum is another, or it is of another run"),
        (b'"crc32"', b'"krc32"', "its checksum has another name"),
    ):
        folder.samples_path.write_bytes(whole.replace(was, now, 1))
        with pytest.raises(UsageError, match=rf"line 1 is damaged \({why}\); remove that line"):
            folder.records()
    lines = [{k: v for k, v in json.loads(line).items() if k != "crc32"} for line in whole.splitlines()]
    folder.samples_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [r.to_json() for r in folder.records()] == lines, "a line without a checksum is taken as it is"
    assert all(isinstance(line.get("prediction"), str) for line in lines)


def test_a_line_of_another_run_is_named_and_not_counted(tmp_path):
    record = SampleRecord("s0", "toy", prediction="", scores={"score": 1.0})
    line = line_of(record, "run-a").encode()
    assert complete_lines(line, tmp_path, "run-a")[0][0].record == record
    with pytest.raises(
        UsageError, match=r"line 1 is damaged \(its checksum is another, or it is of another run"
    ):
        complete_lines(line, tmp_path, "run-b")
    assert complete_lines(line_of(record).encode(), tmp_path, "run-b")[0], "one of an earlier version"


def test_what_stands_twice_is_named(tmp_path):
    one = line_of(SampleRecord("s0", "toy", prediction="", scores={"score": 1.0}))
    other = line_of(SampleRecord("s1", "toy", prediction="", scores={"score": 1.0}))
    with pytest.raises(UsageError, match="lines 1 and 3 are both of toy s0; remove one of them"):
        complete_lines(f"{one}{other}{one}".encode(), tmp_path)


@pytest.mark.parametrize(("score", "why"), [(True, "score is no number"), (1.5, "is 1.5, which is not 0..1")])
def test_a_score_no_task_gives_is_refused(tmp_path, score, why):
    line = line_of(SampleRecord("s0", "toy", prediction="", scores={"score": score})).encode()
    with pytest.raises(UsageError, match=why):
        complete_lines(line, tmp_path)


def test_no_changed_bit_of_a_line_passes(tmp_path):
    """Every one of them, that of the checksum's own name included."""
    line = line_of(SampleRecord("s0", "toy", prediction="", scores={"score": 1.0})).encode()
    assert len(complete_lines(line, tmp_path)[0]) == 1
    for place in range(len(line) - 1):
        for bit in range(8):
            changed = line[:place] + bytes([line[place] ^ 1 << bit]) + line[place + 1 :]
            with pytest.raises(UsageError, match="line 1 is damaged"):
                complete_lines(changed, tmp_path)
