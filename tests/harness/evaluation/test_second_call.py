"""A task that asks on after an answer, and one that cuts prompts by a rule of its own."""

from dataclasses import replace

import pytest

from harness import Prompt, UsageError
from harness.evaluation.plan import plan_run

from ...helpers.running import Toy, run, settings, with_toy


def test_the_last_answer_is_scored_and_both_calls_are_paid_for(tiny_folder, tmp_path, monkeypatch):
    with_toy(monkeypatch)
    _, alone = run(settings(tiny_folder, tmp_path / "once", tasks=("toy",)))
    heard = []

    def follow_up(self, sample, answer):
        heard.append(answer)
        return replace(
            sample, prompt=Prompt("", "", f"You said {answer}. So?"), new_tokens=7, min_new_tokens=7
        )

    monkeypatch.setattr(Toy, "follow_up", follow_up)
    result, records = run(settings(tiny_folder, tmp_path / "twice", tasks=("toy",)))
    assert result.failed == 0 and heard == [record["prediction"] for record in alone.values()]
    for name, record in records.items():
        before = alone[name]
        assert record["details"]["earlier_answers"] == [before["prediction"]]
        assert record["new_tokens"] == 7
        for fact in ("prompt_hash", "prompt_tokens", "truncation", "measured", "declared"):
            assert record[fact] == before[fact], f"{fact} is of the first call"
        assert record["cost"]["forwards"] >= before["cost"]["forwards"] + 7
        assert record["cost"]["seconds"] > record["cost"]["decode_seconds"] > 0


def test_no_second_question_is_an_ordinary_run(tiny_folder, tmp_path, monkeypatch):
    with_toy(monkeypatch)
    monkeypatch.setattr(Toy, "follow_up", lambda self, sample, answer: None)
    _, records = run(settings(tiny_folder, tmp_path, tasks=("toy",)))
    assert all("earlier_answers" not in record["details"] for record in records.values())


def test_a_second_question_that_breaks_is_that_samples_failure(tiny_folder, tmp_path, monkeypatch):
    with_toy(monkeypatch)

    def follow_up(self, sample, answer):
        if sample.id == "s1":
            raise ValueError("no second question")

    monkeypatch.setattr(Toy, "follow_up", follow_up)
    result, records = run(settings(tiny_folder, tmp_path, tasks=("toy",)))
    assert result.failed == 1 and records["s1"]["error"]["message"] == "no second question"


def test_auto_is_the_tasks_own_rule_and_is_recorded_by_its_name(tiny_folder, tmp_path, monkeypatch):
    with_toy(monkeypatch)
    monkeypatch.setattr(Toy, "truncation", "front")
    monkeypatch.setattr(
        Toy, "shorten", lambda self, prompt, limit, tokenizer: replace(prompt, context="front")
    )
    wanted = settings(tiny_folder, tmp_path, tasks=("toy",), max_context=20)
    plan = plan_run(wanted)
    assert plan.identity["truncate"] == "auto"
    assert {p.truncation.rule for p in plan.samples} == {"front"}
    cut = [p for p in plan.samples if p.truncation.truncated]
    assert cut and all("front" in p.rendered.text for p in cut)
    by_hand = plan_run(replace(wanted, truncate="left"))
    assert by_hand.identity["truncate"] == "left" and {p.truncation.rule for p in by_hand.samples} == {"left"}
    monkeypatch.setattr(Toy, "truncation", "middle")
    assert plan_run(wanted).identity["truncate"] == "middle", "the hash of earlier runs stays"


def test_a_rule_without_anybody_to_carry_it_out(tiny):
    from harness.prompts.truncation import truncate

    with pytest.raises(UsageError, match="no rule of truncation is called 'front'"):
        truncate(Prompt("", "word " * 50, ""), "front", 5, tiny.tokenizer)
