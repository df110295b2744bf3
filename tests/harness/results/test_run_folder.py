"""A run's folder: what is appended stays, what was torn goes, and nothing is written that cannot be read."""

import errno
import json
import os
import shutil
import threading

import pytest

from harness import UsageError
from harness.contracts.record import SampleRecord
from harness.results.run_folder import RunFolder, folder_name, identity_hash


def record(name, status="ok", task="t", **more):
    return SampleRecord(name, task, status, prediction="" if status == "ok" else None, extra=more)


@pytest.fixture
def folder(tmp_path):
    found = RunFolder(tmp_path / "runs" / "one")
    with found.open():
        pass
    return found


def filled(folder, *records):
    for each in records:
        folder.append(each)
    return folder.samples_path.read_bytes()


def keys(folder):
    return [(*r.key, r.status) for r in folder.records()]


# --- names


def test_the_hash_follows_every_value_and_no_order():
    identity = {"method": "plain", "options": {"a": 1, "b": [1, 2]}, "name": "é"}
    assert identity_hash(identity) == identity_hash(dict(reversed(identity.items())))
    for changed in ({"method": "beacon"}, {"options": {"a": 1, "b": [2, 1]}}, {"name": "e"}, {"more": None}):
        assert identity_hash(identity | changed) != identity_hash(identity)
    assert len(identity_hash(identity)) == 12


@pytest.mark.parametrize(
    ("model", "short"),
    [
        ("smollm2", "smollm2"),
        ("org/Llama-3.2-1B@main", "Llama-3.2-1B-main"),
        ("/path/to/my model/", "my-model"),
        ("..", "model"),
        ("北京", "model"),
        ("./file.gguf", "file.gguf"),
    ],
)
def test_a_folder_is_named_for_method_and_model_and_safe(model, short):
    name = folder_name("two_pass", model, {})
    assert name == f"two_pass-{short}-{identity_hash({})}" and "/" not in name


# --- appending and reading


def test_what_is_appended_is_on_disk_at_once(folder, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    folder.append(record("a", text="é\n北 \u2028"))
    assert synced == [folder.samples_path.stat().st_size]
    assert folder.samples_path.read_bytes().count(b"\n") == 1
    folder.append(record("b"))
    assert folder.records() == [record("a", text="é\n北 \u2028"), record("b")]


def test_nothing_is_there_before_the_first(folder):
    assert folder.records() == [] and folder.recover() == {} and folder.read_run() is None
    assert not folder.samples_path.exists()


def test_no_number_is_written_that_json_does_not_have(folder):
    with pytest.raises(ValueError):
        folder.append(record("a", score=float("nan")))
    assert folder.records() == []


def test_every_way_a_last_line_can_be_torn(folder):
    whole = filled(folder, record("a"), record("b", text="é北"))
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole)):
        folder.samples_path.write_bytes(whole[:end])
        complete = end == len(whole) - 1  # only the newline is missing: the record is there
        assert [r.id for r in folder.records()] == (["a", "b"] if complete else ["a"])
        assert set(folder.recover()) == ({("t", "a"), ("t", "b")} if complete else {("t", "a")})
        assert folder.samples_path.read_bytes() == (whole if complete else whole[:first])
        folder.append(record("c"))
        assert folder.records()[-1] == record("c"), "what follows starts on a line of its own"


def test_a_file_of_nothing_but_a_torn_line(folder):
    folder.samples_path.write_bytes(b'{"id": "a", "ta')
    assert folder.recover() == {} and folder.samples_path.read_bytes() == b""


def test_blocks_of_zeros_after_a_power_cut_are_a_torn_line(folder):
    whole = filled(folder, record("a"))
    folder.samples_path.write_bytes(whole + b"\0" * 64)
    assert set(folder.recover()) == {("t", "a")} and folder.samples_path.read_bytes() == whole


@pytest.mark.parametrize(
    "damage", [b"{\n", b"3\n", b"[]\n", b'{"id": "b", "task": "t"}\n', b"\xff\xfe\n", b" \n"]
)
def test_a_damaged_line_that_no_kill_explains_is_refused(folder, damage):
    whole = filled(folder, record("a"), record("c"))
    first = whole.index(b"\n") + 1
    for content, number in (
        (whole[:first] + damage + whole[first:], 2),
        (damage + whole, 1),
        (whole + damage, 3),
    ):
        folder.samples_path.write_bytes(content)
        for read in (folder.records, folder.recover):
            with pytest.raises(UsageError, match=f"samples.jsonl line {number} is damaged; remove that line"):
                read()
        assert folder.samples_path.read_bytes() == content


# --- recovering


def test_failed_lines_go_and_finished_ones_stay(folder):
    filled(folder, record("a"), record("b", "error"), record("c", "oom"), record("a", task="u"))
    assert set(folder.recover()) == {("t", "a"), ("u", "a")}
    assert keys(folder) == [("t", "a", "ok"), ("u", "a", "ok")]


def test_a_folder_in_order_is_not_touched(folder):
    filled(folder, record("a"), record("b"))
    before = folder.samples_path.stat()
    folder.recover()
    after = folder.samples_path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_sample_that_is_there_twice_is_not_guessed_at(folder):
    filled(folder, record("a", text="old"), record("b"), record("a", text="new"))
    with pytest.raises(UsageError, match="lines 1 and 3 are both of t a; remove one of them"):
        folder.recover()


def test_the_samples_of_a_failed_run_are_set_aside(folder):
    whole = filled(folder, record("a"))
    folder.set_aside()
    assert folder.records() == []
    assert (folder.path / "samples-failed.jsonl").read_bytes() == whole
    folder.set_aside()  # nothing to set aside: nothing is lost either
    assert (folder.path / "samples-failed.jsonl").read_bytes() == whole


# --- run.json


def test_run_json_is_replaced_whole_or_not_at_all(folder, monkeypatch):
    folder.write_run({"status": "running", "name": "é"})
    assert folder.read_run() == {"status": "running", "name": "é"}

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left on device"):
        folder.write_run({"status": "finished"})
    assert folder.read_run() == {"status": "running", "name": "é"}


def test_a_file_of_the_run_gets_the_folders_it_needs(folder):
    folder.write_text("prompts/a.txt", "Q?")
    assert (folder.path / "prompts" / "a.txt").read_text() == "Q?"


# --- when the disk says no


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_an_append_that_fails_says_what_to_do_and_keeps_what_was_there(folder, monkeypatch, code):
    filled(folder, record("a"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(code, "x")))
        with pytest.raises(UsageError) as caught:
            folder.append(record("b"))
    message = str(caught.value)
    assert os.strerror(code) in message and "--out" in message and "the same command resumes" in message
    assert ("t", "a") in folder.recover()


def test_a_line_is_synced_behind_and_a_refusal_stops_the_next(folder, monkeypatch):
    began, may_go = threading.Event(), threading.Event()

    def slow(descriptor):
        began.set()
        assert may_go.wait(10)
        raise OSError(errno.ENOSPC, "x")

    monkeypatch.setattr(os, "fsync", slow)
    with pytest.raises(UsageError, match="the same command resumes"), folder.syncing_behind():
        folder.append(record("a"))  # returns although the disk is busy
        assert began.wait(10) and folder.records() == [record("a")]
        may_go.set()
        folder.append(record("b"))
    assert folder.records() == [record("a")]
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(errno.ENOSPC, "x")))
    with pytest.raises(UsageError, match="No space left"), folder.syncing_behind():
        folder.append(record("c"))  # the last: the end of the block says it
    with pytest.raises(KeyError), folder.syncing_behind():
        folder.append(record("d"))
        raise KeyError


def test_errors_of_another_kind_are_not_mistaken_for_a_full_disk(folder, monkeypatch):
    def broken(descriptor):
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Bad file"):
        folder.append(record("a"))


def test_a_folder_below_a_file_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UsageError, match="cannot be written"), RunFolder(path).open():
            raise AssertionError("it was opened")


# --- two at a time


def test_an_open_folder_is_not_opened_again(folder):
    other = RunFolder(folder.path)
    with folder.open():
        with pytest.raises(UsageError, match=f"another process is working on {folder.path}"), other.open():
            raise AssertionError("it was opened twice")
        folder.append(record("a"))
    with other.open():
        assert keys(other) == [("t", "a", "ok")]


def test_records_are_json_lines_that_other_tools_read(folder):
    filled(folder, record("a", n=1.5), record("b", none=None))
    lines = folder.samples_path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["a", "b"]


def test_a_disk_that_fails_is_told_by_the_systems_word(folder, monkeypatch):
    def broken(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(UsageError, match=r"cannot be written \(Input/output error"):
        folder.append(record("a"))


@pytest.mark.parametrize("way", ["removed", "linked", "cut", "replaced"])
def test_nothing_is_written_where_the_folder_is_no_more(tmp_path, way):
    folder = RunFolder(tmp_path / "one")
    other = tmp_path / "other"
    with folder.open():
        folder.append(record("a"))
        shutil.copytree(folder.path, other)
        if way in ("removed", "linked"):
            shutil.rmtree(folder.path)
        if way == "linked":
            folder.path.symlink_to(other)
        if way == "cut":
            folder.samples_path.write_bytes(b"")
        if way == "replaced":
            shutil.copy(other / "samples.jsonl", tmp_path / "copy")
            (tmp_path / "copy").replace(folder.samples_path)
        with pytest.raises(UsageError, match="while the run was at work"):
            folder.append(record("b"))
    assert len((other / "samples.jsonl").read_bytes().splitlines()) == 1
