"""The rows of a table: means over what finished, shares of what was lost, averages only of what they name."""

from dataclasses import replace

import pytest

from harness import Task
from harness.contracts.record import SampleRecord
from harness.results.summary import row, summarise
from harness.stats.bootstrap import confidence_interval


class Toy(Task):
    metrics = ("main", "other")

    def samples(self, env):
        return []

    def score(self, sample, prediction):
        return {}

    def breakdown(self, scored):
        return {f"i{s.metadata['i']}": s.scores["other"] for s in scored}


class Family(Toy):
    """Two averages over different members: ``both``, where both were run, and ``first``."""

    metrics = ("main",)
    variants = ("a", "b", "c")

    @classmethod
    def averages(cls, means):
        found = {"first": means["a"]} if "a" in means else {}
        if {"a", "b"} <= set(means):
            found["both"] = (means["a"] + means["b"]) / 2
        return found

    def breakdown(self, scored):
        return {}


def record(i, score, task="toy", **changes):
    base = {
        "id": f"s{i}",
        "task": task,
        "status": "ok",
        "metadata": {"i": i},
        "scores": {"main": score, "other": 1 - score},
        "stop_reason": "eos",
        "prompt_tokens": 101,
        "truncation": {"truncated": False, "answer_survives": None},
        "measured": {"kv_tokens": 50, "verified": True, "compression": 2.0},
        "cost": {
            "kv_bytes": 1000,
            "peak_bytes": 10,
            "compress_seconds": 1.0,
            "prefill_seconds": 2.0,
            "decode_seconds": 3.0,
        },
    }
    return SampleRecord.from_json({**base, **changes})


def failed(i, status="error", task="toy"):
    """A failed record has no answer, no cost, no measurement."""
    found = {
        "id": f"s{i}",
        "task": task,
        "status": status,
        "metadata": {},
        "prompt_tokens": 9,
        "truncation": {"truncated": True, "answer_survives": False},
        "error": {"type": "E", "message": "m", "where": None},
    }
    return SampleRecord.from_json(found)


def task(cls=Toy, name="toy"):
    return cls(cls.Options(), name, name.partition("/")[2] or None)


def test_a_row_of_finished_samples():
    found = row(task(), 3, [record(0, 0.25), record(1, 0.5), record(2, 1.0)])
    assert (found["task"], found["metric"], found["n"], found["n_ok"]) == ("toy", "main", 3, 3)
    assert found["score"] == pytest.approx(1.75 / 3)
    assert found["interval"] == confidence_interval([0.25, 0.5, 1.0])
    assert found["scores"] == {"main": pytest.approx(1.75 / 3), "other": pytest.approx(1.25 / 3)}
    assert found["breakdown"] == {"i0": 0.75, "i1": 0.5, "i2": 0.0}
    assert (found["compress_seconds"], found["prefill_seconds"], found["decode_seconds"]) == (1, 2, 3)
    assert (found["compression"], found["verified"], found["kv_bytes"]) == (2.0, True, 1000)
    assert (found["truncated"], found["answer_lost"], found["hit_limit"]) == (0.0, None, 0.0)


def test_a_score_that_is_no_mean_has_no_interval_of_one():
    class Best(Toy):
        def aggregate(self, scored):
            return {"main": max(s.scores["main"] for s in scored), "other": 0.0}

    found = row(task(Best), 3, [record(0, 0.25), record(1, 0.5), record(2, 1.0)])
    assert found["score"] == 1.0 and found["interval"] is None


def test_failed_samples_are_counted_and_never_averaged():
    found = row(task(), 5, [record(0, 0.5), failed(1), failed(2, "oom"), record(3, 1.0)])
    assert (found["n"], found["n_ok"]) == (5, 2) and found["statuses"] == {"error": 1, "ok": 2, "oom": 1}
    assert found["score"] == 0.75 and found["truncated"] == 0.0 and found["prompt_tokens"] == 101


def test_a_row_of_nothing():
    for records in ([], [failed(0), failed(1)]):
        found = row(task(), 2, records)
        assert found["n_ok"] == 0
        for name in ("score", "interval", "truncated", "answer_lost", "hit_limit", "compression", "verified"):
            assert found[name] is None
        for name in ("kv_bytes", "peak_bytes", "prompt_tokens", "decode_seconds"):
            assert found[name] is None
        assert found["scores"] == {} and found["breakdown"] == {}


def test_shares_of_what_was_cut_lost_and_stopped():
    cut = {"truncated": True, "answer_survives": False}
    kept = {"truncated": True, "answer_survives": True}
    found = row(
        task(),
        4,
        [
            record(0, 0.0, truncation=cut, stop_reason="length"),
            record(1, 1.0, truncation=kept),
            record(2, 0.5, truncation={"truncated": True, "answer_survives": None}),
            record(3, 0.5),
        ],
    )
    assert found["truncated"] == 0.75 and found["hit_limit"] == 0.25
    assert found["answer_lost"] == 0.5, "of the two whose answer could be lost"


def test_the_compression_is_of_all_tokens_not_a_mean_of_ratios():
    long = record(
        0, 1.0, prompt_tokens=1001, measured={"kv_tokens": 100, "verified": True, "compression": 10}
    )
    short = record(1, 1.0, prompt_tokens=101, measured={"kv_tokens": 100, "verified": True, "compression": 1})
    assert row(task(), 2, [long, short])["compression"] == 1100 / 200
    nothing = record(0, 1.0, measured={"kv_tokens": 0, "verified": True, "compression": None})
    assert row(task(), 1, [nothing])["compression"] is None


def test_one_unverified_sample_marks_the_row():
    loose = record(1, 1.0, measured={"kv_tokens": 50, "verified": False, "compression": 2.0})
    assert row(task(), 2, [record(0, 1.0), loose])["verified"] is False


def test_costs_that_were_not_seen_are_left_out_not_counted_as_nothing():
    seen = record(1, 1.0)
    unseen = replace(seen, cost=replace(seen.cost, kv_bytes=None, peak_bytes=None))
    found = row(task(), 2, [record(0, 1.0), unseen])
    assert found["kv_bytes"] == 1000 and found["peak_bytes"] == 10
    assert row(task(), 1, [unseen])["peak_bytes"] is None


def test_what_methods_say_of_answers_is_counted_once_an_answer():
    said = [["flat"], ["flat", "flat", "odd"], None, "no list"]
    found = row(task(), 4, [record(i, 1.0, details={"notes": notes}) for i, notes in enumerate(said)])
    assert found["notes"] == {"flat": 2, "odd": 1}
    assert "notes" not in row(task(), 1, [record(0, 1.0)])


def test_answers_with_thoughts_are_counted():
    texts = ["<think>\nblue?\n</think>\n\nblue", "blue", "hm</think> blue"]
    found = row(task(), 3, [record(i, 1.0, prediction=text) for i, text in enumerate(texts)])
    assert found["notes"] == {"the answer holds a thought (<think>), which was scored with it": 2}


def planned(*records):
    keys = [r.key for r in records]
    return keys, dict(zip(keys, records))


def test_totals_count_what_is_missing():
    keys, records = planned(record(0, 1.0), failed(1), record(2, 0.5))
    del records["toy", "s2"]
    found = summarise([task()], keys, records)
    assert found["total"] == {"n": 3, "n_ok": 1, "failed": 1, "missing": 1}
    assert found["tasks"][0]["score"] == 1.0 and found["averages"] == {}


def test_records_that_were_not_planned_do_not_count():
    keys, records = planned(record(0, 1.0), record(1, 0.0))
    assert summarise([task()], keys[:1], records)["tasks"][0]["score"] == 1.0


def family(**scores):
    """Summary of a family with these scores of its members; None stands for a failed sample."""
    tasks = [task(Family, f"family/{name}") for name in scores]
    records = [
        failed(i, task=f"family/{name}") if s is None else record(i, s, f"family/{name}", scores={"main": s})
        for name, values in scores.items()
        for i, s in enumerate(values)
    ]
    keys, by_key = planned(*records)
    return summarise(tasks, keys, by_key)["averages"]


A, B, C = [0.1, 0.2, 0.3, 0.2], [0.8, 0.9, 0.7, 0.8], [0.0, 0.5, 1.0, 0.5]


def test_averages_weigh_datasets_and_carry_their_own_intervals():
    found = family(a=A, b=B)["family"]
    assert found["values"] == {"first": pytest.approx(0.2), "both": pytest.approx(0.5)}
    assert found["complete"] is True
    low, high = found["intervals"]["first"]
    assert 0.05 < low < 0.2 < high < 0.4
    low, high = found["intervals"]["both"]
    assert 0.4 < low < 0.5 < high < 0.6


def test_a_dataset_beside_an_average_does_not_move_its_interval():
    narrow, wide = family(a=A, b=B)["family"], family(a=A, b=B, c=C)["family"]
    assert wide["values"] == narrow["values"]
    assert wide["intervals"]["both"] == pytest.approx(narrow["intervals"]["both"], abs=0.01)


def test_an_average_over_survivors_is_marked():
    assert family(a=[*A, None], b=B)["family"]["complete"] is False


def test_an_average_that_lacks_a_dataset_is_not_there():
    assert list(family(a=A, b=[None, None])["family"]["values"]) == ["first"]
    assert family(b=B) == {} and family(c=C) == {}


def test_single_samples_have_no_interval():
    assert family(a=[0.1], b=B)["family"]["intervals"] is None
