"""lm-eval's tasks under a method: local YAML, no network; lm-eval itself, with its `hf` model, is the reference."""

import json
import math
import shutil
from types import SimpleNamespace

import pytest

from harness import UsageError, registry
from harness.cli import invoke
from harness.cli.list import tasks as listed
from harness.evaluation.plan import plan_run
from harness.evaluation.runner import execute
from harness.tasks.lm_eval_bridge import prompts

from ..helpers.lm_eval_yaml import COLOURS, write_tasks
from ..helpers.running import Watcher, run, settings

pytestmark = pytest.mark.usefixtures("no_default_tasks")


@pytest.fixture
def include(tmp_path):
    return write_tasks(tmp_path / "tasks")


def wanted(tiny_folder, tmp_path, include, *names, **changes):
    options = {"include_path": str(include), "num_fewshot": 2, **changes.pop("set", {})}
    return settings(
        tiny_folder,
        tmp_path / "runs",
        tasks=tuple(f"lm_eval:{n}" for n in names),
        task_settings={"lm_eval": options},
        offline=True,
        **changes,
    )


def by_lm_eval(tiny_folder, include, task, shots=2):
    """lm-eval's own results and requests with its own `hf` model."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    return simple_evaluate(
        model="hf",
        model_args={"pretrained": str(tiny_folder), "dtype": "float32"},
        device="cpu",
        tasks=[task],
        num_fewshot=shots,
        task_manager=TaskManager(include_path=str(include)),
        bootstrap_iters=0,
    )


@pytest.mark.parametrize("shots", [0, 2])
def test_multiple_choice_is_lm_evals(tiny_folder, tmp_path, include, shots):
    result, records = run(
        wanted(tiny_folder, tmp_path, include, "tiny_choice", set={"num_fewshot": shots}, batch_size=2)
    )
    theirs = by_lm_eval(tiny_folder, include, "tiny_choice", shots)
    [row] = result.summary["tasks"]
    assert (row["n_ok"], row["verified"], row["metric"]) == (4, True, "acc")
    assert row["scores"] == {
        name: pytest.approx(theirs["results"]["tiny_choice"][f"{name},none"]) for name in ("acc", "acc_norm")
    }
    for sample in theirs["samples"]["tiny_choice"]:
        record = records[str(sample["doc_id"])]
        expected = [float(r[0][0]) for r in sample["resps"]]
        assert [x["logprob"] for x in record["likelihoods"]] == pytest.approx(expected, abs=1e-4)
        best = max(range(3), key=lambda i: expected[i])
        assert record["prediction"] == f" {COLOURS[best]}"
        assert record["stop_reason"] == "choices" and record["new_tokens"] == 0


def test_generation_is_lm_evals(tiny_folder, tmp_path, include):
    _, records = run(wanted(tiny_folder, tmp_path, include, "tiny_generate"))
    theirs = by_lm_eval(tiny_folder, include, "tiny_generate")
    for sample in theirs["samples"]["tiny_generate"]:
        record = records[str(sample["doc_id"])]
        assert record["prediction"] == sample["resps"][0][0]
        assert record["scores"] == {"exact_match": sample["exact_match"]}
        assert "likelihoods" not in record


def test_the_record_says_whose_task_it_was(tiny_folder, tmp_path, include):
    import lm_eval

    result, _ = run(wanted(tiny_folder, tmp_path, include, "tiny_choice"))
    content = result.folder.read_run()
    facts = content["prompts"]["lm_eval/tiny_choice"]["facts"]
    assert (facts["lm_eval"], facts["task_version"], facts["num_fewshot"]) == (lm_eval.__version__, 3.0, 2)
    assert facts["metrics_left_out"] == ["brier_score"]
    assert content["identity"]["tasks"][0]["facts"] == facts
    assert (result.folder.path / "prompts" / "lm_eval-tiny_choice.txt").is_file()


def test_another_wording_of_the_task_is_another_run(tiny_folder, tmp_path, include):
    first, _ = run(wanted(tiny_folder, tmp_path, include, "tiny_choice"))
    from harness.tasks.lm_eval_bridge import library

    library._manager.cache_clear()
    file = include / "tiny_choice.yaml"
    file.write_text(file.read_text("utf-8").replace("Say a colour", "Name a colour"), encoding="utf-8")
    second, _ = run(wanted(tiny_folder, tmp_path, include, "tiny_choice"))
    assert first.folder.path != second.folder.path


def test_a_group_stands_for_its_members(tiny_folder, tmp_path, include):
    result = execute(plan_run(wanted(tiny_folder, tmp_path, include, "tiny_group")), Watcher())
    rows = result.summary["tasks"]
    assert [r["task"] for r in rows] == ["lm_eval/tiny_choice", "lm_eval/tiny_generate"]
    values = result.summary["averages"]["lm_eval"]["values"]
    assert values == {"mean over tasks": pytest.approx((rows[0]["score"] + rows[1]["score"]) / 2)}


@pytest.mark.parametrize("method", ["beacon", "two_pass"])
def test_methods_compress_the_examples(tiny_folder, tmp_path, include, method):
    options = {"beacon": {"ratio": "8"}, "two_pass": {"first_ratio": "8", "calibration_contexts": "2"}}[
        method
    ]
    _, records = run(
        wanted(
            tiny_folder,
            tmp_path,
            include,
            "tiny_choice",
            method=method,
            options={"interval": "16", **options},
            context_length=64,
            limit=2,
        )
    )
    for record in records.values():
        assert record["status"] == "ok", record
        assert record["measured"]["verified"] and record["measured"]["compression"] > 2
        assert all(math.isfinite(x["logprob"]) for x in record["likelihoods"])


def samples(include, name, tokenizer, by=":", **options):
    options = {"include_path": str(include), **options}
    [task] = registry.tasks([f"lm_eval{by}{name}"], {"lm_eval": options})
    env = SimpleNamespace(tokenizer=tokenizer, offline=True, limit=None, seed=42, trust_task_code=False)
    return list(task.samples(env))


def test_the_question_is_apart_from_the_examples(tiny, include):
    plain = samples(include, "tiny_choice", tiny.tokenizer, num_fewshot=3)
    for n, sample in enumerate(plain):
        assert sample.prompt.suffix == f"Question: What is the colour of thing {n}?\nAnswer:"
        assert sample.prompt.context.startswith("Say a colour.\n\nQuestion: ")
        assert sample.prompt.context.count("Answer: ") == 3 and sample.prompt.context.endswith("\n\n")
        assert sample.metadata["split"] == "fewshot"
        assert sample.references == (COLOURS[n % 3],)
    by_line = samples(include, "tiny_choice", tiny.tokenizer, num_fewshot=3, split="line")
    assert [s.prompt.text for s in by_line] == [s.prompt.text for s in plain]
    assert {s.prompt.suffix for s in by_line} == {"Answer:"}
    [zero, *_] = samples(include, "tiny_choice", tiny.tokenizer)
    assert (zero.metadata["split"], zero.prompt.suffix) == ("line", "Answer:")


@pytest.mark.parametrize("multiturn", [True, False])
def test_the_chat_template_is_applied_as_lm_eval_does(tiny, include, multiturn):
    one = samples(
        include,
        "tiny_choice",
        tiny.tokenizer,
        num_fewshot=1,
        apply_chat_template=True,
        fewshot_as_multiturn=multiturn,
    )[0]
    assert one.prompt.text.count("<|im_start|>assistant") == (2 if multiturn else 1)
    assert one.prompt.suffix.endswith("Answer:<|im_end|>\n<|im_start|>assistant\n")
    assert not one.chat, "the template is in the text already"


def test_stop_strings_and_limits_are_the_tasks(tiny, include):
    one = samples(include, "tiny_generate", tiny.tokenizer)[0]
    assert (one.until, one.new_tokens, one.choices) == (("\n", "."), 6, ())
    assert prompts.limits({}) == (256, ())


def test_sampling_is_noted_and_not_done(tmp_path, tiny_folder):
    include = write_tasks(tmp_path / "sampled", sample=True)
    result, _ = run(wanted(tiny_folder, tmp_path, include, "tiny_generate"))
    assert "greedy" in result.folder.read_run()["prompts"]["lm_eval/tiny_generate"]["facts"]["sampling"]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("lm_eval:tiny_chioce", {}, "did you mean 'tiny_choice'"),
        ("lm_eval", {}, "write lm_eval:NAME"),
        ("passkey:x", {}, "no names after a colon"),
        ("lm_eval:tiny_choice", {"include_path": "/nowhere-at-all"}, "no such folder"),
        ("lm_eval:tiny_choice", {"num_fewshots": 1}, "did you mean 'num_fewshot'"),
    ],
)
def test_wrong_names_are_one_line(include, name, options, words):
    given = {"lm_eval": {"include_path": str(include), **options}} if name.startswith("lm_eval") else {}
    with pytest.raises(UsageError, match=words):
        registry.tasks([name], given)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("tiny_rolling", {}, "likelihood of whole texts"),
        ("tiny_group", {"by": "/"}, "ask for lm_eval:tiny_group"),
        ("tiny_choice", {"metrics": "brier_score"}, "that is a mean"),
    ],
)
def test_what_cannot_be_asked_is_one_line(tiny, include, name, options, words):
    with pytest.raises(UsageError, match=words):
        samples(include, name, tiny.tokenizer, **options)


def test_data_that_is_not_there_is_one_line(tiny, include):
    (include / "data" / "tiny_choice.json").unlink()
    with pytest.raises(UsageError, match="cannot be loaded"):
        samples(include, "tiny_choice", tiny.tokenizer)


def test_metrics_can_be_chosen(tiny_folder, tmp_path, include):
    result, _ = run(wanted(tiny_folder, tmp_path, include, "tiny_choice", set={"metrics": "acc_norm"}))
    [row] = result.summary["tasks"]
    assert (row["metric"], set(row["scores"])) == ("acc_norm", {"acc_norm"})


def test_the_list_of_tasks_says_how_it_is_asked():
    [row] = [r for r in listed() if r["name"] == "lm_eval"]
    assert any("lm_eval:NAME" in note for note in row["notes"])


def test_the_command_line_takes_a_local_task(tiny_folder, tmp_path, include, capsys):
    words = ["run", "-m", "plain", "-t", "lm_eval:tiny_choice", "--model", tiny_folder, "--device", "cpu"]
    words += ["--set", f"lm_eval.include_path={include}", "--set", "lm_eval.num_fewshot=2", "--offline"]
    assert invoke([str(w) for w in [*words, "--out", tmp_path / "runs", "--json"]]) == 0
    assert json.loads(capsys.readouterr().out)["tasks"][0]["n_ok"] == 4


def test_cutting_keeps_the_choices_scored_after_the_end_of_the_prompt(tiny_folder, tmp_path, include):
    result, records = run(
        wanted(tiny_folder, tmp_path, include, "tiny_choice", context_length=48, truncate="left")
    )
    for record in records.values():
        assert record["status"] == "ok" and record["truncation"]["truncated"]
        longest = max(x["tokens"] for x in record["likelihoods"])
        assert record["prompt_tokens"] + longest <= 48
    assert result.summary["tasks"][0]["verified"]


def test_examples_that_are_the_same_for_all_are_compressed_once(tiny_folder, tmp_path, include):
    file = include / "tiny_choice.yaml"
    file.write_text(file.read_text("utf-8") + "fewshot_config: {sampler: first_n}\n", encoding="utf-8")
    method = {"method": "beacon", "options": {"interval": "16", "ratio": "8"}}
    _, shared = run(wanted(tiny_folder, tmp_path, include, "tiny_choice", **method))
    _, alone = run(wanted(tiny_folder, tmp_path, include, "tiny_choice", share=False, batch_size=2, **method))
    assert [r["cost"]["questions"] for r in shared.values()] == [4] * 4
    for key, record in shared.items():
        assert record["measured"] == alone[key]["measured"] and record["measured"]["verified"]
        assert [x["logprob"] for x in record["likelihoods"]] == pytest.approx(
            [x["logprob"] for x in alone[key]["likelihoods"]], abs=1e-4
        )


def test_a_run_killed_before_its_summary_is_summed_up_without_data(tiny_folder, tmp_path, include):
    from harness.reports._rows import summary
    from harness.results.loading import load_run

    result, _ = run(wanted(tiny_folder, tmp_path, include, "tiny_generate"))
    content = result.folder.read_run()
    expected = content.pop("summary")
    result.folder.write_run(content)
    shutil.rmtree(include)
    found = summary(load_run(result.folder.path))
    assert found["tasks"][0]["score"] == expected["tasks"][0]["score"]
    assert found["tasks"][0]["metric"] == "exact_match"


def test_a_member_that_cannot_be_asked_leaves_the_rest_of_its_group(tiny_folder, tmp_path, include):
    file = include / "tiny_group.yaml"
    file.write_text("group: tiny_group\ntask: [tiny_choice, tiny_rolling]\n", encoding="utf-8")
    plan = plan_run(wanted(tiny_folder, tmp_path, include, "tiny_group"))
    assert [t.name for t in plan.tasks] == ["lm_eval/tiny_choice"]
    assert "whole texts" in plan.unavailable["lm_eval/tiny_rolling"]
