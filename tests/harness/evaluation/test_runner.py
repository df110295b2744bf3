"""Runs end to end: what is recorded, what resuming keeps, what another request changes, what a failure costs."""

import gc
import hashlib
import json
import os
import weakref
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from harness import Prompt, Sample, Task, UsageError, load_runs, registry
from harness.cli import invoke
from harness.evaluation.plan import plan_run
from harness.evaluation.runner import execute
from harness.evaluation.samples import prepare_sample
from harness.evaluation.settings import RunSettings
from harness.models import adapters
from harness.plugins.plain import Plain
from harness.prompts.rendering import tokenize
from harness.results.summary import digest, own_digest

from ...helpers.running import (
    Toy,
    Watcher,
    answers,
    as_method,
    by_id,
    counting,
    one_thread,
    run,
    settings,
    with_toy,
)

GRID = {"passkey": {"lengths": "190,288", "depths": "0,100"}}
"""Two samples that fit the tiny window and two that do not."""


def passkey(tiny_folder, out, **changes):
    return settings(tiny_folder, out, task_settings=GRID, **changes)


def toy(tiny_folder, out, **changes):
    return settings(tiny_folder, out, tasks=("toy",), **changes)


def key(prepared):
    return prepared.sample.id


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


# --- what a run leaves behind


@pytest.fixture(scope="module")
def plain_run(tiny_folder, tmp_path_factory, session_cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(session_cache))
        plan = plan_run(passkey(tiny_folder, tmp_path_factory.mktemp("runs")))
        assert "network" not in plan.model.__dict__, "planning reads no weights"
        watcher = Watcher()
        return plan, execute(plan, watcher), watcher


def test_the_predictions_are_the_models_own_greedy_answers(plain_run, tiny):
    plan, result, _ = plain_run
    records = by_id(result.folder)
    assert list(records) == [key(p) for p in plan.samples] and len(records) == 4
    for prepared in plan.samples:
        ids = torch.tensor([tokenize(prepared.rendered, tiny).ids])
        out = tiny.network.generate(ids, max_new_tokens=10, do_sample=False, eos_token_id=list(tiny.end_ids))
        new = out[0, ids.shape[1] :].tolist()
        record = records[key(prepared)]
        assert record["prediction"] == tiny.tokenizer.decode(new, skip_special_tokens=True)
        assert record["new_tokens"] == len(new)
        assert record["stop_reason"] == ("eos" if new[-1] in tiny.end_ids else "length")


def test_each_record_holds_what_its_number_rests_on(plain_run):
    plan, result, watcher = plain_run
    for prepared, record in zip(plan.samples, by_id(result.folder).values()):
        cut = prepared.sample.metadata["length"] == 288
        assert record["task"] == "passkey" and record["status"] == "ok"
        assert record["references"] == [prepared.sample.metadata["key"]]
        assert record["metadata"] == prepared.sample.metadata
        assert record["prompt_tokens"] + 10 <= 256
        assert record["truncation"]["rule"] == "middle" and record["truncation"]["truncated"] is cut
        assert (record["truncation"]["tokens_after"] < record["truncation"]["tokens_before"]) is cut
        assert record["truncation"]["answer_in_context"] is True
        assert set(record["scores"]) == {"accuracy", "fuzzy"}
        assert record["measured"] == {
            "kv_tokens": record["prompt_tokens"] - 1,
            "verified": True,
            "compression": 1.0,
        }
        cost = record["cost"]
        assert cost["kv_bytes"] > 0 and cost["peak_bytes"] > 0 and cost["forwards"] > 2
        phases = cost["compress_seconds"] + cost["prefill_seconds"] + cost["decode_seconds"]
        assert 0 < phases <= cost["seconds"]
        assert cost["compress_seconds"] < cost["prefill_seconds"] / 2, "plain compresses nothing: it reads"
    assert watcher.totals == {"passkey": 4} and watcher.done == {"passkey": 0}
    assert [r.id for r in watcher.records] == [key(p) for p in plan.samples]


def test_run_json_says_everything_that_can_change_an_answer(plain_run, tiny):
    _, result, _ = plain_run
    content = result.folder.read_run()
    assert result.folder.path.name == f"plain-tiny-{content['hash']}"
    identity = content["identity"]
    assert identity["model_hash"] == tiny.content_hash and identity["tokenizer_hash"] == tiny.tokenizer_hash
    assert (identity["dtype"], identity["device"], identity["truncate"], identity["seed"]) == (
        "float32",
        "cpu",
        "middle",
        42,
    )
    assert identity["tasks"][0]["options"]["lengths"] == [190, 288]
    assert content["status"] == "finished" and content["summary"] == json.loads(json.dumps(result.summary))
    assert content["method"]["origin"].startswith("long-context-harness ")
    assert content["method"]["sees_question"] is False and content["method"]["context_limit"] == 256
    assert content["model"]["parameters"] == sum(p.numel() for p in tiny.network.parameters())
    assert content["environment"]["packages"]["torch"] == torch.__version__
    assert content["environment"]["cpus"] == os.cpu_count() and "gpu" in content["environment"]
    assert content["prompts"]["passkey"]["preset"] == "passkey-thesis@1"


def test_the_first_prompt_is_there_to_be_read(plain_run):
    _, result, _ = plain_run
    dumped = (result.folder.path / "prompts" / "passkey.txt").read_bytes()
    first = next(iter(by_id(result.folder).values()))
    assert hashlib.sha256(dumped).hexdigest()[:16] == first["prompt_hash"]
    assert b"<|im_start|>assistant\nThe passkey is " in dumped


# --- resuming


def test_a_finished_run_does_nothing_and_says_so(tiny_folder, tmp_path, capsys):
    words = ["run", "-m", "plain", "--model", str(tiny_folder), "--device", "cpu", "--out", str(tmp_path)]
    words += ["--set", "passkey.depths=0,50,100"]
    assert invoke([*words, "--limit", "1"]) == 0
    assert "1 samples run" in capsys.readouterr().out
    folder = next(tmp_path.iterdir())
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*.json*")}
    assert invoke([*words, "--limit", "1"]) == 0
    assert "nothing to do: this run is finished" in capsys.readouterr().out
    assert invoke([*words, "--limit", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ran"] == 0
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*.json*")} == before
    plan = plan_run(settings(tiny_folder, tmp_path, limit=1))
    assert execute(plan, Watcher()).ran == 0
    assert "network" not in plan.model.__dict__, "no weights are read for nothing"


def test_raising_the_limit_continues_the_same_folder(tiny_folder, tmp_path):
    first, _ = run(passkey(tiny_folder, tmp_path, limit=1))
    kept = first.folder.samples_path.read_bytes()
    plan = plan_run(passkey(tiny_folder, tmp_path, limit=3))
    watcher = Watcher()
    second = execute(plan, watcher)
    assert second.folder.path == first.folder.path and second.ran == 2
    assert watcher.totals == {"passkey": 3} and watcher.done == {"passkey": 1}
    assert second.folder.samples_path.read_bytes().startswith(kept)
    assert second.summary["total"] == {"n": 3, "n_ok": 3, "failed": 0, "missing": 0}
    assert [r.id for r in watcher.records] == [key(p) for p in plan.samples[1:]]


def test_lowering_the_limit_loses_nothing(tiny_folder, tmp_path):
    first, _ = run(passkey(tiny_folder, tmp_path, limit=3))
    kept = first.folder.samples_path.read_bytes()
    second, _ = run(passkey(tiny_folder, tmp_path, limit=2))
    assert second.folder.path == first.folder.path and second.ran == 0
    assert second.summary["total"]["n"] == 2 and second.folder.samples_path.read_bytes() == kept


def test_every_other_request_has_a_folder_of_its_own(tiny, tiny_folder, tmp_path):
    for name, fill in (("a", 0.0), ("b", 1.0)):
        adapters.write(
            tmp_path / name, "beacon", tiny, {"weights.safetensors": {"w": torch.full((2,), fill)}}, {}
        )
    base = settings(tiny_folder, tmp_path, method="beacon", options={"interval": "32"}, limit=1)
    others = [
        replace(base, options={"interval": "64"}),
        replace(base, options={"interval": "32", "ratio": "8"}),
        replace(base, dtype="bfloat16"),
        replace(base, seed=43),
        replace(base, adapter=tmp_path / "a"),
        replace(base, adapter=tmp_path / "b"),
        replace(base, context_length=250, task_settings={"passkey": {"lengths": "288"}}),
        replace(base, context_length=240, task_settings={"passkey": {"lengths": "288"}}),
        replace(base, truncate="left"),
        replace(base, max_context=100),
        replace(base, chat="never"),
        replace(base, batch_size=2),
        replace(base, batch_size=2, limit=3),  # who is in the last batch may change an answer
        replace(base, trust_remote_code=True),
        replace(base, allow_unused_weights=True),
        replace(base, task_settings={"passkey": {"preset": "beacon"}}),
        replace(base, method="plain", options={}),
    ]
    folders = [plan_run(wanted).folder.path for wanted in [base, *others]]
    assert len(set(folders)) == len(folders)
    same = [replace(base, limit=3), replace(base, offline=True), replace(base, data_dir=tmp_path)]
    assert {plan_run(wanted).folder.path for wanted in same} == {folders[0]}
    assert not any(path.exists() for path in folders), "planning writes nothing"


def test_answers_of_another_environment_are_not_mixed_in_unsaid(tiny_folder, tmp_path):
    first, _ = run(passkey(tiny_folder, tmp_path, limit=1))
    content = first.folder.read_run()
    assert "earlier_environments" not in content
    old = {**content["environment"], "gpu": "another"}
    first.folder.write_run({**content, "environment": old})
    second, _ = run(passkey(tiny_folder, tmp_path, limit=2))
    assert second.folder.read_run()["earlier_environments"] == [old]
    third, _ = run(passkey(tiny_folder, tmp_path, limit=3))
    assert third.folder.read_run()["earlier_environments"] == [old], "remembered, and once"


def test_an_edited_plugin_file_does_not_answer_for_the_old_one(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_local_methods", {})
    file = tmp_path / "mine.py"
    folders = []
    for text in ("# one", "# two"):
        file.write_text(
            f"from harness.plugins.plain import Plain\nclass Mine(Plain):\n    {text}\n    pass\n"
        )
        registry.register_file(file)
        folders.append(plan_run(settings(tiny_folder, tmp_path, method="mine", limit=1)).folder.path)
    assert folders[0] != folders[1]


def trec(folder, *rows):
    lines = [
        json.dumps(
            {
                "_id": row_id,
                "input": question,
                "context": "The sky is blue. " * 3,
                "answers": [answer],
                "all_classes": ["Food", "Date"],
                "length": 5,
            }
        )
        for row_id, question, answer in rows
    ]
    folder.mkdir(exist_ok=True)
    (folder / "trec.jsonl").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("change", [("a", "Other?", "Food"), ("a", "What?", "Date")], ids=["text", "answer"])
def test_changed_data_under_the_same_id_are_another_run(tiny_folder, tmp_path, change):
    data = tmp_path / "data"
    wanted = settings(tiny_folder, tmp_path / "runs", tasks=("longbench/trec",), data_dir=data)
    trec(data, ("a", "What?", "Food"), ("b", "Who?", "Date"))
    result, _ = run(wanted)
    kept = result.folder.samples_path.read_bytes()
    trec(data, change, ("b", "Who?", "Date"))
    other, _ = run(wanted)
    assert other.folder.path != result.folder.path and other.ran == 2
    assert result.folder.samples_path.read_bytes() == kept
    trec(data, ("a", "What?", "Food"), ("b", "Who?", "Date"))
    assert run(replace(wanted, limit=1))[0].folder.path == result.folder.path, "the whole file counts"


class Drifting(Task):
    """A task that reads data and does not say which."""

    rows: ClassVar[tuple[str, ...]] = ("a", "b", "c")

    def samples(self, env):
        for name in self.rows[: env.limit]:
            yield Sample(name, Prompt("", f"The key is {name}.", " What?"), (name,), 3)

    def score(self, sample, prediction):
        return {"score": 0.0}


def test_a_task_that_does_not_say_what_it_reads_mixes_nothing_either(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "task_class", lambda name: (registry.Plugin(name, "here", Drifting), None))
    wanted = settings(tiny_folder, tmp_path, tasks=("drifting",))
    assert run(wanted)[0].summary["total"]["n"] == 3
    assert run(replace(wanted, limit=2))[0].ran == 0, "a smaller limit is no other data"
    monkeypatch.setattr(Drifting, "rows", ("x", "y"))
    with pytest.raises(UsageError, match="holds other samples of drifting: the data changed"):
        run(wanted)


def test_what_was_planned_is_written_down_and_obeyed(tiny_folder, tmp_path):
    data = tmp_path / "data"
    trec(data, ("a", "What?", "Food"), ("b", "Who?", "Date"))
    result, _ = run(settings(tiny_folder, tmp_path, tasks=("longbench/trec",), data_dir=data))
    content = json.loads((result.folder.path / "run.json").read_text())
    assert content["planned"] == {"longbench/trec": ["a", "b"]}
    assert content["summary_of"] == digest(result.folder.records())
    assert content["summary_sum"] == own_digest(content["summary"])
    stranger = replace(result.folder.records()[0], id="z", scores={"score": 1.0})
    result.folder.append(stranger)
    [loaded] = load_runs([result.folder.path])
    assert [name for _, name in loaded.records] == ["a", "b"] and loaded.n_ok == 2 and not loaded.warnings


@pytest.mark.parametrize("name", ["passkey", "passkey/"])
def test_a_task_has_one_name(name):
    assert [t.name for t in registry.tasks([name], {})] == ["passkey"]


def test_the_same_ids_in_two_tasks_are_two_samples(tiny_folder, tmp_path):
    data = tmp_path / "data"
    trec(data, ("a", "What?", "Food"))
    (data / "lcc.jsonl").write_bytes((data / "trec.jsonl").read_bytes())
    wanted = settings(tiny_folder, tmp_path, tasks=("longbench/trec", "longbench/lcc"), data_dir=data)
    plan = plan_run(wanted)
    result = execute(plan, Watcher())
    assert [r.key for r in result.folder.records()] == [
        ("longbench/trec", "a"),
        ("longbench/lcc", "a"),
    ]
    assert execute(plan_run(wanted), Watcher()).ran == 0


# --- a sample that fails


def test_a_failed_sample_is_recorded_and_only_it_runs_again(tiny_folder, tmp_path, monkeypatch, capsys):
    failing = {1}

    def before(prompts):
        if len(method.calls) - 1 in failing:
            raise ValueError("no luck\nthis time")

    method = counting(monkeypatch, before)
    words = ["run", "-m", "own", "--model", str(tiny_folder), "--device", "cpu", "--out", str(tmp_path)]
    words += ["--set", "passkey.depths=0,50,100"]
    assert invoke([*words, "--json"]) == 1
    first = json.loads(capsys.readouterr().out)
    assert first["total"] == {"n": 3, "n_ok": 2, "failed": 1, "missing": 0} and len(method.calls) == 3
    folder = next(tmp_path.iterdir())
    content = json.loads((folder / "run.json").read_text())
    assert content["status"] == "finished with failures"
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert [r["status"] for r in lines] == ["ok", "error", "ok"]
    assert lines[1]["error"] == {
        "type": "ValueError",
        "message": "no luck\nthis time",
        "where": lines[1]["error"]["where"],
    }
    assert lines[1]["error"]["where"].startswith("test_runner.py:")

    failing.clear()
    method.calls.clear()
    assert invoke(words) == 0
    assert "1 samples run" in capsys.readouterr().out
    assert len(method.calls) == 1
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert sorted(r["id"] for r in lines) == [f"len288-depth{d}-t0" for d in (0, 100, 50)]
    assert {r["status"] for r in lines} == {"ok"}
    assert json.loads((folder / "run.json").read_text())["status"] == "finished"


def test_the_table_says_how_many_failed_and_what_to_type(tiny_folder, tmp_path, monkeypatch, capsys):
    def before(prompts):
        if len(method.calls) == 2:
            raise ValueError("no luck")

    method = counting(monkeypatch, before)
    words = ["run", "-m", "own", "--model", str(tiny_folder), "--device", "cpu", "--out", str(tmp_path)]
    words += ["--set", "passkey.depths=0,50,100"]
    assert invoke(words) == 1
    out = capsys.readouterr().out
    assert "2/3" in out and "1 error; the score is over the 2 that finished" in out
    assert f"next: harness {' '.join(words)}    # runs the 1 failed samples again\n" in out


def test_a_batch_that_fails_is_tried_sample_by_sample(tiny_folder, tmp_path, monkeypatch):
    bad = "22222"

    def before(prompts):
        if any(bad in p.prompt.text for p in prompts):
            raise ValueError("no luck")

    with_toy(monkeypatch)
    method = counting(monkeypatch, before)
    result, records = run(toy(tiny_folder, tmp_path, method="own", batch_size=2))
    assert {k: r["status"] for k, r in records.items()} == {"s0": "ok", "s1": "error", "s2": "ok", "s3": "ok"}
    assert [len(c) for c in method.calls] == [2, 1, 1, 2]
    assert records["s0"]["cost"]["batch"] == 1 and records["s3"]["cost"]["batch"] == 2
    assert result.failed == 1


def out_of_memory():
    raise torch.OutOfMemoryError("CUDA out of memory")


def python_memory():
    raise MemoryError


def cpu_memory():
    torch.empty(10**15)  # more than a process can address


@pytest.mark.parametrize("exhaust", [out_of_memory, python_memory, cpu_memory])
def test_out_of_memory_in_a_batch_is_retried_alone(tiny_folder, tmp_path, monkeypatch, exhaust):
    def before(prompts):
        if len(prompts) > 1 or "33333" in prompts[0].prompt.text:
            exhaust()

    with_toy(monkeypatch)
    counting(monkeypatch, before)
    result, records = run(toy(tiny_folder, tmp_path, method="own", batch_size=4))
    assert {k: r["status"] for k, r in records.items()} == {"s0": "ok", "s1": "ok", "s2": "oom", "s3": "ok"}
    assert result.summary["tasks"][0]["statuses"] == {"ok": 3, "oom": 1}


def test_what_filled_the_memory_is_gone_before_the_retry(tiny_folder, tmp_path, monkeypatch):
    alive = []

    class Block:
        """Stands for the tensors of a batch that did not fit."""

    def before(prompts):
        assert not any(ref() is not None for ref in alive)
        block = Block()
        alive.append(weakref.ref(block))
        if len(prompts) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with_toy(monkeypatch)
    counting(monkeypatch, before)
    gc.disable()  # only what is freed at once is free when the retry needs it
    try:
        _, records = run(toy(tiny_folder, tmp_path, method="own", batch_size=2, limit=2))
    finally:
        gc.enable()
    assert [r["status"] for r in records.values()] == ["ok", "ok"] and len(alive) == 3


def test_a_method_that_returns_too_few_answers(tiny_folder, tmp_path, monkeypatch):
    class Forgetful(Plain):
        def compress_and_generate(self, prompts, decoding):
            return super().compress_and_generate(prompts, decoding)[:1]

    class Silent(Plain):
        def compress_and_generate(self, prompts, decoding):
            return []

    with_toy(monkeypatch)
    as_method(monkeypatch, Forgetful)
    _, records = run(toy(tiny_folder, tmp_path, method="own", batch_size=2))
    assert {r["status"] for r in records.values()} == {"ok"}, "each sample alone gets its answer"
    as_method(monkeypatch, Silent, "silent")
    _, records = run(toy(tiny_folder, tmp_path, method="silent", limit=1))
    assert records["s0"]["status"] == "error"
    assert records["s0"]["error"]["message"] == "the method returned 0 answers to 1 prompts"


@pytest.mark.parametrize(
    ("score", "message"),
    [
        ({"score": float("nan")}, "score = nan"),
        ({"score": float("inf")}, "score = inf"),
        ({"score": 66.7}, "score = 66.7, which is not 0..1"),
        ({"score": -0.1}, "score = -0.1"),
        ({"other": 1.0}, "no score 'score'"),
        ({"score": "high"}, "could not convert"),
        (None, "'NoneType'"),
    ],
)
def test_a_score_that_is_none_is_a_failed_sample(tiny_folder, tmp_path, monkeypatch, score, message):
    with_toy(monkeypatch, lambda sample, prediction: score if sample.id == "s1" else {"score": 0.5})
    result, records = run(toy(tiny_folder, tmp_path, batch_size=2))
    assert {k: r["status"] for k, r in records.items()} == {"s0": "ok", "s1": "error", "s2": "ok", "s3": "ok"}
    assert message in records["s1"]["error"]["message"]
    assert result.summary["tasks"][0]["score"] == 0.5 and result.failed == 1
    assert records["s0"]["cost"]["batch"] == 2, "the other answer of the batch is kept"


def test_scores_of_numpys_types_are_numbers(tiny_folder, tmp_path, monkeypatch):
    with_toy(monkeypatch, lambda sample, prediction: {"score": np.float32(0.5), "exact": np.bool_(True)})
    _, records = run(toy(tiny_folder, tmp_path, limit=1))
    assert records["s0"]["scores"] == {"score": 0.5, "exact": 1.0}


@pytest.mark.parametrize(
    ("value", "message"),
    [(float("nan"), "JSON"), (torch.ones(1), "JSON"), ({1, 2}, "JSON"), ("\ud83d", "surrogates")],
    ids=["nan", "tensor", "set", "half a character"],
)
def test_details_that_are_no_json_fail_the_sample_only(tiny_folder, tmp_path, monkeypatch, value, message):
    class Chatty(Plain):
        def compress_and_generate(self, prompts, decoding):
            found = super().compress_and_generate(prompts, decoding)
            if "22222" in prompts[0].prompt.text:
                found[0].details["value"] = value
            return found

    with_toy(monkeypatch)
    as_method(monkeypatch, Chatty)
    _, records = run(toy(tiny_folder, tmp_path, method="own", limit=3))
    assert [r["status"] for r in records.values()] == ["ok", "error", "ok"]
    assert message in records["s1"]["error"]["message"]


@pytest.mark.parametrize(
    "odd",
    [
        {"metadata": {"value": float("nan")}},
        {"metadata": {"value": {1}}},
        {"references": ("half a \ud83d",)},
        {"prompt": Prompt("", "half a \ud83d", "?")},
    ],
)
def test_a_sample_that_cannot_be_written_down_is_refused_before_the_model_is_loaded(
    tiny_folder, tmp_path, monkeypatch, odd
):
    class Odd(Toy):
        def samples(self, env):
            for sample in super().samples(env):
                yield replace(sample, **odd)

    with_toy(monkeypatch)
    monkeypatch.setattr("tests.helpers.running.Toy", Odd)
    with pytest.raises(UsageError, match="task toy: sample 's0' cannot be written down: "):
        plan_run(toy(tiny_folder, tmp_path))


def test_an_id_given_twice_is_refused(tiny_folder, tmp_path, monkeypatch):
    with_toy(monkeypatch)
    monkeypatch.setattr(Toy, "samples", lambda self, env: [Sample("x", Prompt("", "a", "b"), ("a",), 2)] * 2)
    with pytest.raises(UsageError, match="task toy gives the id 'x' twice"):
        plan_run(toy(tiny_folder, tmp_path))


def test_an_interrupted_run_has_a_partial_report_and_goes_on(tiny_folder, tmp_path, monkeypatch, capsys):
    def before(prompts):
        if len(method.calls) == 3:
            raise KeyboardInterrupt

    with_toy(monkeypatch)
    method = counting(monkeypatch, before)
    words = ["run", "-m", "own", "-t", "toy", "--model", str(tiny_folder), "--device", "cpu"]
    assert invoke([*words, "--out", str(tmp_path)]) == 130
    captured = capsys.readouterr()
    assert captured.err.strip() == "harness: interrupted; the same command resumes where it stopped"
    folder = next(tmp_path.iterdir())
    content = json.loads((folder / "run.json").read_text())
    assert content["status"] == "interrupted"
    assert content["summary"]["total"] == {"n": 4, "n_ok": 2, "failed": 0, "missing": 2}
    assert invoke([*words, "--out", str(tmp_path)]) == 0
    content = json.loads((folder / "run.json").read_text())
    assert content["status"] == "finished" and content["summary"]["total"]["n_ok"] == 4
    assert len(method.calls) == 5, "two finished, one interrupted, two left"


# --- batches


@pytest.mark.parametrize(
    ("method", "options"),
    [("plain", {}), ("beacon", {"interval": "32"}), ("beacon", {"interval": "32", "ratio": "4"})],
    ids=["plain", "beacon-adapt", "beacon-4"],
)
def test_a_batch_gives_the_answers_of_its_samples_alone(tiny_folder, tmp_path, method, options):
    grid = {"passkey": {"lengths": "150,230,400", "depths": "0,100"}}
    base = settings(tiny_folder, tmp_path, method=method, options=options, task_settings=grid)
    _, alone = run(base)
    _, together = run(replace(base, batch_size=4))
    assert answers(together) == answers(alone)
    assert {r["cost"]["batch"] for r in together.values()} == {4, 2}
    assert len({r["prediction"] for r in alone.values()}) > 1, (
        "answers that differ, so that a mix-up would show"
    )


def test_batches_hold_one_decoding_only(tiny_folder, tmp_path, monkeypatch):
    class Mixed(Toy):
        def samples(self, env):
            for i, sample in enumerate(super().samples(env)):
                yield replace(sample, new_tokens=4 if i < 3 else 6)

    with_toy(monkeypatch)
    monkeypatch.setattr("tests.helpers.running.Toy", Mixed)
    method = counting(monkeypatch)
    _, records = run(toy(tiny_folder, tmp_path, method="own", batch_size=2))
    assert [len(c) for c in method.calls] == [2, 1, 1]
    assert [r["new_tokens"] for r in records.values()] == [4, 4, 4, 6]


def test_the_method_prepares_for_everything_before_the_first_sample(tiny_folder, tmp_path, monkeypatch):
    seen = []

    class Careful(Plain):
        def prepare(self, prompts, decoding):
            assert self.announce is not None
            seen.append(("prepare", len(prompts)))

        def compress_and_generate(self, prompts, decoding):
            seen.append(("ask", len(prompts)))
            return super().compress_and_generate(prompts, decoding)

    with_toy(monkeypatch)
    as_method(monkeypatch, Careful)
    run(toy(tiny_folder, tmp_path, method="own", limit=2))
    assert seen == [("prepare", 2), ("ask", 1), ("ask", 1)]


# --- the budget


def one(tiny, sample, task=Toy, **changes):
    wanted = RunSettings(**changes)
    method = Plain(tiny, Plain.Options())
    return prepare_sample(task(Toy.Options(), "toy"), sample, method, wanted)


words = st.text(alphabet="ab é北\N{SLIGHTLY SMILING FACE}\n.1", max_size=120)


@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    prefix=words,
    context=words.map(lambda text: text * 4),
    suffix=words,
    new=st.integers(1, 256),
    rule=st.sampled_from(["middle", "left", "right", "context-end", "none"]),
    chat=st.booleans(),
)
def test_what_is_asked_fits_the_window_or_is_refused_with_the_arithmetic(
    tiny, prefix, context, suffix, new, rule, chat
):
    sample = Sample("x", Prompt(prefix, context, suffix), ("1",), new, chat=chat, answer_prefix="A:")
    try:
        prepared = one(tiny, sample, truncate=rule)
    except UsageError as error:
        assert any(char.isdigit() for char in str(error)) and "\n" not in str(error)
        return
    assert prepared.tokens == len(tokenize(prepared.rendered, tiny)) <= 256 - new
    assert prepared.rendered.text.endswith("A:")


def test_max_context_is_kept_and_refused_where_it_cannot_be(tiny):
    sample = Sample("x", Prompt("", "The sky is blue. " * 100, "Q?"), ("1",), 10, chat=False)
    assert one(tiny, sample, max_context=50).truncation.tokens_after <= 50
    with pytest.raises(UsageError, match=r"250 prompt \+ 0 template \+ 10 new tokens = 260 > 256") as caught:
        one(tiny, sample, max_context=250)
    assert "lower --max-context to 246" in str(caught.value)
    short = replace(sample, prompt=Prompt("", "The sky is blue.", "Q?"))
    assert one(tiny, short, max_context=250).truncation.truncated is False, "the prompt itself is what counts"


def test_a_habit_of_the_literature_cuts_unless_cutting_is_forbidden(tiny):
    class Habitual(Toy):
        def max_context(self):
            return 50

    sample = Sample("x", Prompt("", "The sky is blue. " * 20, "Q?"), ("1",), 10, chat=False)
    assert one(tiny, sample, task=Habitual).truncation.limit == 50
    assert one(tiny, sample, task=Habitual, max_context=80).truncation.limit == 80
    assert one(tiny, sample, task=Habitual, truncate="none").truncation.truncated is False
