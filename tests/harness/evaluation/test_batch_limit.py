"""`--batch-size auto`: rows by free memory, the longest first, halved where memory ran out, the same answers."""

import json
from dataclasses import replace

import pytest
import torch

from harness import UsageError
from harness.cli import invoke
from harness.evaluation import batch_limit
from harness.evaluation.batches import sample_batches
from harness.evaluation.plan import plan_run
from harness.inference import memory

from ...helpers.running import run, settings

LENGTHS = {"task_settings": {"passkey": {"lengths": "110,230,150", "depths": "0,50,100"}}}


def grid(folder, out, **changes):
    return settings(folder, out, tasks=("passkey",), **LENGTHS, **changes)


def test_rows_follow_memory_and_length(tiny, monkeypatch):
    monkeypatch.setattr(memory, "free", lambda device: int(8.1 * batch_limit.row_bytes(tiny.config, 100, 4)))
    limit = batch_limit.BatchLimit("auto", tiny)
    assert [limit.rows(n) for n in (100, 10**6, 1)] == [4, 1, batch_limit.MOST]  # half of what is free
    limit.failed(4, 100)
    assert limit.rows(100) == 2
    limit.failed(1, 100)
    assert limit.rows(100) == 1
    assert batch_limit.BatchLimit(3, tiny).rows(10**6) == 3
    monkeypatch.setattr(memory, "free", lambda device: None)
    assert batch_limit.BatchLimit("auto", tiny).rows(10**6) == batch_limit.MOST


def test_a_row_is_at_least_its_cache(tiny):
    entry = 2 * tiny.config.num_hidden_layers * tiny.config.num_key_value_heads * tiny.config.head_dim * 4
    assert batch_limit.row_bytes(tiny.config, 1000, 4) > 1000 * entry
    assert memory.free("cpu") is None or memory.free("cpu") > 2**20


def test_answers_are_those_of_one_by_one_and_the_longest_come_first(tiny_folder, tmp_path):
    _, alone = run(grid(tiny_folder, tmp_path))
    result, together = run(grid(tiny_folder, tmp_path, batch_size="auto"))
    assert {k: r["prediction"] for k, r in together.items()} == {k: r["prediction"] for k, r in alone.items()}
    lines = [json.loads(line) for line in result.folder.samples_path.read_text().splitlines()]
    lengths = [line["prompt_tokens"] for line in lines]
    assert lengths == sorted(lengths, reverse=True) and lengths[0] > lengths[-1]
    assert {r["cost"]["batch"] for r in together.values()} == {9}
    again, _ = run(grid(tiny_folder, tmp_path, batch_size="auto"))
    assert again.ran == 0 and again.folder.path == result.folder.path


def test_padding_is_small(tiny_folder, tmp_path):
    plan = plan_run(grid(tiny_folder, tmp_path, batch_size="auto"))
    batches = list(sample_batches(plan.method, plan.samples, 3, True, longest_first=True))
    assert [len({p.tokens // 20 for p in batch.samples}) for batch in batches] == [1, 1, 1]


def test_a_batch_too_large_for_the_memory_is_halved_and_so_are_those_after_it(
    tiny_folder, tmp_path, monkeypatch
):
    _, alone = run(grid(tiny_folder, tmp_path))
    plan = plan_run(grid(tiny_folder, tmp_path, batch_size="auto"))
    real, tried = type(plan.method).run, []

    def greedy(self, prompts, decoding):
        tried.append(len(prompts))
        if len(prompts) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, prompts, decoding)

    monkeypatch.setattr(type(plan.method), "run", greedy)
    monkeypatch.setattr(batch_limit, "MOST", 6)
    _, records = run(grid(tiny_folder, tmp_path, batch_size="auto"))
    assert tried == [6, 3, 3, 3]  # nine samples: the first batch of six fails, the second is small enough
    assert {k: (r["status"], r["prediction"]) for k, r in records.items()} == {
        k: ("ok", r["prediction"]) for k, r in alone.items()
    }
    tried.clear()
    monkeypatch.setattr(
        type(plan.method), "run", lambda self, prompts, decoding: greedy(self, [*prompts] * 4, decoding)
    )
    _, records = run(grid(tiny_folder, tmp_path / "never", batch_size="auto"))
    assert {r["status"] for r in records.values()} == {"oom"} and tried[:3] == [24, 12, 4]


def test_a_size_that_was_asked_for_is_kept(tiny_folder, tmp_path):
    wanted = grid(tiny_folder, tmp_path, batch_size=2)
    assert plan_run(wanted).folder.path != plan_run(replace(wanted, batch_size="auto")).folder.path
    _, records = run(wanted)
    assert {r["cost"]["batch"] for r in records.values()} == {2, 1}


def test_other_words_are_refused(tiny_folder, tmp_path, capsys):
    with pytest.raises(UsageError, match="--batch-size many: give a number of samples, or auto"):
        plan_run(settings(tiny_folder, tmp_path, batch_size="many"))
    assert invoke(["run", "-m", "plain", "--batch-size", "many"]) == 2
    assert "'many' is not a valid integer" in capsys.readouterr().err.replace("\n", " ")
