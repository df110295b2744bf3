"""Whatever is typed, or stands in a file: one line and exit 2, or a plan; no traceback, and nothing left behind."""

import contextlib
import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness import UsageError, registry
from harness.cli import invoke
from harness.models import adapters, loading
from harness.options import describe
from harness.plugins.beacon import checkpoint
from harness.results.run_folder import RunFolder
from harness.tasks.synthetic.evaluation import FACTS

from ...helpers.fuzzing import JSON, LINES, NUMBERS, TEXT, folder, refused_or_done, tried

QUICK = tried(25)


@pytest.fixture(scope="module", autouse=True)
def _no_run():
    """Runs end where they would begin."""

    def execute(plan, watcher):
        raise UsageError("planned")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.evaluation.runner.execute", execute)
        patch.delenv("HARNESS_DEBUG", raising=False)
        yield


FLAGS = "--limit --seed --max-context --context-length --batch-size --sample-timeout --truncate --chat --dtype --device"
MORE = "--adapter --task --set --share --offline --join --json -m --plugin --data-dir".split()
TASKS = "passkey niah synthetic longbench/qasper longbench/trec longbench/lcc ruler/vt ruler/niah_single_1".split()
VALUES = st.one_of(NUMBERS, TEXT, st.lists(NUMBERS, max_size=3).map(",".join))


@QUICK
@given(st.data())
def test_options(tiny_folder, data):
    """Any two options of a method, a run or a task, with whatever for values."""
    draw = data.draw
    method, task = draw(st.sampled_from(registry.method_names())), draw(st.sampled_from(TASKS))
    own = [
        f"--{row['name'].replace('_', '-')}" for row in describe(registry.listed_method(method).cls.Options)
    ]
    words = [
        "run",
        "-m",
        method,
        "-t",
        task,
        "--model",
        tiny_folder,
        "--device",
        "cpu",
        "--offline",
        "--limit",
        "1",
    ]
    for flag in draw(st.lists(st.sampled_from([*FLAGS.split(), *own, *own, *MORE]), max_size=2)):
        words += [flag, draw(VALUES)]
    family = registry.task_class(task)[0]
    for row in draw(st.lists(st.sampled_from(describe(family.cls.Options) or [{"name": "x"}]), max_size=2)):
        words += ["--set", f"{family.name}.{row['name']}={draw(VALUES)}"]
    with folder() as base:
        refused_or_done([*words, "--out", base / "out"])
        assert not list(base.iterdir())


ROW = {"task": "longbench/qasper", "prediction": "a b", "answers": ["a"], "all_classes": None}
NAMES = st.sampled_from([*TASKS, "qasper"])
FIELDS = st.sampled_from(["task", "dataset", "prediction", "answers", "all_classes", "outputs"])


def changed(row, fields=FIELDS, tasks=NAMES):
    """Lines that are almost right: a field or two have another value."""
    values = JSON if tasks is None else st.one_of(JSON, tasks)
    changes = st.dictionaries(fields, values, max_size=2)
    return changes.map(lambda change: json.dumps({**row, **change}).encode())


@QUICK
@given(st.lists(st.one_of(LINES, changed(ROW), st.just(json.dumps(ROW).encode())), max_size=3))
def test_files_of_predictions(lines):
    with folder() as base:
        (base / "file.jsonl").write_bytes(b"\n".join(lines))
        refused_or_done(["score", base / "file.jsonl", "--json"])


SAMPLE = {"input": "q", "context": "c c", "answers": ["a"], "all_classes": None, "length": 2, "_id": "1"}


SYNTHETIC = {
    "id": "1",
    "prefix": [0, 2],
    "context": [2, 6],
    "suffix": [6, 9],
    "prompt": "a b c d e f",
    "label": "A:",
}
SYNTHETIC |= {"question": "q?", "answer": "A: x", **dict.fromkeys(FACTS, "x")}


@QUICK
@given(
    st.lists(st.one_of(LINES, changed(SAMPLE, st.sampled_from([*SAMPLE]), None)), min_size=1, max_size=3),
    st.lists(
        st.one_of(LINES, changed(SYNTHETIC, st.sampled_from([*SYNTHETIC]), None)), min_size=1, max_size=2
    ),
)
def test_data_files(tiny_folder, lines, made):
    with folder() as base:
        (base / "qasper.jsonl").write_bytes(b"\n".join(lines))
        words = ["run", "-m", "plain", "-t", "longbench/qasper", "--data-dir", base, "--model", tiny_folder]
        refused_or_done([*words, "--device", "cpu", "--out", base / "out"])
        (base / "data.jsonl").write_bytes(b"\n".join(made))
        words = [
            "run",
            "-m",
            "plain",
            "-t",
            "synthetic",
            "--set",
            f"synthetic.file={base}",
            "--model",
            tiny_folder,
        ]
        refused_or_done([*words, "--device", "cpu", "--out", base / "out"])
        assert {path.name for path in base.iterdir()} == {"qasper.jsonl", "data.jsonl"}


@pytest.fixture(scope="module")
def adapter(tiny, tmp_path_factory):
    """A whole adapter for the tiny model."""
    path = tmp_path_factory.mktemp("adapter")
    weights = checkpoint.new_experts(tiny, [2, 4], 4, 8)
    checkpoint.write_weights(path, weights, tiny, {"interval": 32}, torch.float32)
    return path


CARD_FIELDS = st.sampled_from(
    ["format", "method", "base_hash", "files", "experts", "rank", "lora_alpha", "interval"]
)


def with_adapter(adapter, model, out):
    """The words of a run of one sample with an adapter."""
    options = ["-m", "lora_experts", "--interval", 32, "--adapter", adapter, "--model", model]
    return [str(word) for word in ("run", *options, "--device", "cpu", "--limit", 1, "--out", out)]


@QUICK
@given(st.data())
def test_adapter_folders(tiny_folder, adapter, data):
    card = json.loads((adapter / adapters.CARD).read_text())
    with folder() as base:
        copy = base / "adapter"
        shutil.copytree(adapter, copy)
        name = data.draw(st.sampled_from(sorted(card["files"])))
        kind = data.draw(st.sampled_from(["card", "line", "file", "damage"]))
        if kind == "card":
            card |= data.draw(st.dictionaries(CARD_FIELDS, JSON, max_size=2))
        elif kind == "file":  # garbage whose hash is right
            (copy / name).write_bytes(data.draw(st.binary(max_size=60)))
            card["files"][name] = hashlib.sha256((copy / name).read_bytes()).hexdigest()
        elif kind == "damage":
            whole = (copy / name).read_bytes()
            (copy / name).write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        text = data.draw(LINES) if kind == "line" else json.dumps(card).encode()
        (copy / adapters.CARD).write_bytes(text)
        refused_or_done(with_adapter(copy, tiny_folder, base / "out"))
        assert [path.name for path in base.iterdir()] == ["adapter"]


RECORD = {"id": "a", "task": "t", "status": "ok"}
RECORDS = changed(RECORD, st.sampled_from([*RECORD, "scores", "prediction", "crc32"]), None)


@QUICK
@given(st.lists(st.one_of(LINES, RECORDS), max_size=3), LINES)
def test_run_folders(lines, run):
    with folder() as base:
        (base / "samples.jsonl").write_bytes(b"\n".join(lines))
        (base / "run.json").write_bytes(run)
        found = RunFolder(base)
        for read in (found.read_run, found.records, found.recover):
            with contextlib.suppress(UsageError):
                read()


# --- what an attacker would try


EXPLOIT = b"cos\nsystem\n(S'touch %s'\ntR."


def test_a_pickle_by_another_name_is_not_opened(tiny_folder, adapter, tmp_path, capsys):
    """A file that would run a command when unpickled, under the name of weights and with its hash in the card."""
    sign = tmp_path / "pwned"
    for name in json.loads((adapter / adapters.CARD).read_text())["files"]:
        copy = tmp_path / "adapter"
        shutil.copytree(adapter, copy)
        (copy / name).write_bytes(EXPLOIT % str(sign).encode())
        card = json.loads((copy / adapters.CARD).read_text())
        card["files"][name] = adapters.digest(copy / name)
        (copy / adapters.CARD).write_text(json.dumps(card))
        (copy / "adapter_model.bin").write_bytes(EXPLOIT % str(sign).encode())
        status = invoke(with_adapter(copy, tiny_folder, tmp_path / "out"))
        err = capsys.readouterr().err
        assert status == 2 and (name in err or name.endswith(".json")), err
        assert not sign.exists()
        shutil.rmtree(copy)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/../../outside", "a\\b", "", "."])
def test_a_card_that_names_files_elsewhere(tiny, adapter, tmp_path, name):
    copy = Path(shutil.copytree(adapter, tmp_path / "a" / "adapter"))
    (tmp_path / "a" / "outside").write_text("secret")
    card = json.loads((copy / adapters.CARD).read_text())
    card["files"][name] = "0" * 64
    (copy / adapters.CARD).write_text(json.dumps(card))
    for call in (
        lambda: adapters.check(copy, ("lora_experts",), tiny),
        lambda: adapters.copy(copy, tmp_path / "b"),
    ):
        with pytest.raises(UsageError, match="does not list files of that folder"):
            call()
    assert not (tmp_path / "b").exists() and not (tmp_path / "outside").exists()


def test_a_file_that_the_card_does_not_list_is_not_read(tiny_folder, adapter, tmp_path):
    """Its hash is nowhere, so nobody could have held it to one."""
    copy = Path(shutil.copytree(adapter, tmp_path / "adapter"))
    card = json.loads((copy / adapters.CARD).read_text())
    card["files"] = {name: hash for name, hash in card["files"].items() if not name.startswith("expert-4/")}
    (copy / adapters.CARD).write_text(json.dumps(card))
    model = loading.load(str(tiny_folder), device="cpu")
    adapters.check(copy, ("lora_experts",), model)
    with pytest.raises(UsageError, match=r"does not list expert-4/"):
        checkpoint.read_weights("lora_experts", copy, model)
