"""``harness data``: what a task asks, readable; data and models fetched ahead."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness import UsageError
from harness.cli.data import data
from harness.evaluation.task_environment import task_environment
from harness.models import loading


def run(*args):
    return CliRunner().invoke(data, [str(arg) for arg in args])


@pytest.fixture
def folder(tmp_path):
    rows = [
        {
            "_id": "r1",
            "input": "Who?",
            "context": "a" * 3000 + "[b]" + "c" * 3000,
            "answers": ["é"],
            "length": 1,
        },
        {"_id": "r2", "input": "Why?", "context": "short", "answers": ["so"], "length": 1},
    ]
    (tmp_path / "hotpotqa.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return tmp_path


@pytest.fixture
def no_model(monkeypatch):
    def load(name, **options):
        raise UsageError(f"model {name}: not here")

    monkeypatch.setattr(loading, "load", load)


def test_show_marks_the_parts_and_leaves_out_the_middle(folder, tiny_folder):
    result = run("show", "longbench/hotpotqa", "--data-dir", folder, "--model", tiny_folder)
    assert result.exit_code == 0, result.exception
    lines = result.stdout.splitlines()
    assert lines[0] == "longbench/hotpotqa, sample 1: r1"
    assert [line for line in lines if line.startswith("---")] == [
        "--- prefix, 143 characters ---",
        "--- context, 6,003 characters ---",
        "--- 4,003 characters left out; --full shows them ---",
        "--- suffix, 133 characters ---",
        "--- end of prompt ---",
    ]
    assert 'references: ["é"]' in lines
    assert 'metadata: {"length": 1}' in lines
    assert "new tokens: 32" in lines
    assert "r2" not in result.stdout


def test_the_tokens_shown_are_those_the_model_reads(folder, tiny_folder):
    from harness.prompts.rendering import render, tokenize
    from harness.tasks.longbench.prompts import PROTOCOLS

    model = loading.load(str(tiny_folder), device="cpu")
    prompt = PROTOCOLS["hotpotqa"].render("short", "Why?")
    tokens = len(tokenize(render(prompt, model, chat=True), model))
    result = run("show", "longbench/hotpotqa", "--data-dir", folder, "--model", tiny_folder, "--limit", 2)
    assert f"prompt tokens: {tokens:,} for {tiny_folder}" in result.stdout


def test_full(folder, no_model):
    result = run("show", "longbench/hotpotqa", "--data-dir", folder, "--full", "--limit", 5)
    assert "a" * 3000 + "[b]" + "c" * 3000 in result.stdout
    assert "left out" not in result.stdout
    assert "sample 2: r2" in result.stdout


def test_a_default_model_that_is_not_to_be_had_costs_the_counts_only(folder, no_model):
    result = run("show", "longbench/hotpotqa", "--data-dir", folder)
    assert result.exit_code == 0, result.exception
    assert "prompt tokens: unknown: model smollm2: not here" in result.stdout


def test_a_model_that_was_asked_for_must_be_there(folder, no_model):
    result = run("show", "longbench/hotpotqa", "--data-dir", folder, "--model", "smollm2")
    assert isinstance(result.exception, UsageError) and "not here" in str(result.exception)


def test_a_task_that_counts_needs_a_model(no_model):
    result = run("show", "passkey")
    assert isinstance(result.exception, UsageError)
    assert "this task counts tokens" in str(result.exception) and "not here" in str(result.exception)


def test_show_passes_options_and_seed(tiny_folder):
    def key(*args):
        result = run("show", "passkey", "--set", "passkey.lengths=300", "--model", tiny_folder, *args)
        assert result.exit_code == 0, result.exception
        [line] = [x for x in result.stdout.splitlines() if x.startswith("metadata: ")]
        facts = json.loads(line.removeprefix("metadata: "))
        assert facts["length"] == 300
        return facts["key"]

    assert key() == key("--seed", 42) != key("--seed", 7)
    assert (
        "sample 3: len300-depth100-t0"
        in run("show", "passkey", "--set", "passkey.lengths=300", "--model", tiny_folder, "--limit", 9).stdout
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("passkey", "--set", "lengths=3"), "TASK.OPTION=VALUE"),
        (("passkey", "--set", "passkey.length=3"), "did you mean 'lengths'?"),
        (("paskey",), "did you mean 'passkey'?"),
        (("longbench/trec", "--data-dir", "nowhere"), "--data-dir nowhere: no such folder"),
    ],
)
def test_what_is_wrong_is_said(tiny_folder, args, message):
    result = run("show", *args, "--model", tiny_folder)
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)


def test_fetch_a_familys_data(monkeypatch):
    asked = []

    def download(*names, **options):
        asked.append((names, options["local_files_only"]))
        return "/hub/data.zip"

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    result = run("fetch", "longbench")
    assert result.stdout == f"{Path('/hub/data.zip')}\n"
    assert asked == [(("THUDM/LongBench", "data.zip"), False)]


def test_fetch_a_model(tiny_folder):
    result = run("fetch", tiny_folder)
    assert result.exit_code == 0, result.exception
    assert result.stdout == f"{tiny_folder}\n"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("passkey", "nothing to fetch"),
        ("longbenhc", "no task or model named 'longbenhc'; did you mean 'longbench'?"),
        ("smolm2", "did you mean 'smollm2'?"),
        ("longbench/trek", "did you mean 'longbench/trec'?"),
    ],
)
def test_what_cannot_be_fetched(name, message):
    result = run("fetch", name)
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)


def test_the_environment(tiny, tmp_path):
    from harness import Prompt

    env = task_environment(tiny, seed=7, data_dir=tmp_path, offline=True, limit=3)
    assert (env.seed, env.data_dir, env.offline, env.limit) == (7, tmp_path, True, 3)
    assert env.context_length == tiny.context_length and env.tokenizer is tiny.tokenizer
    prompt = Prompt("Hello", " there", ".")
    ids = tiny.tokenizer("Hello there.")["input_ids"]  # with the BOS that the model reads
    assert env.count(prompt, False, "") == len(ids)
    wrapped = tiny.tokenizer(tiny.render_chat("Hello there.") + "Yes")["input_ids"]
    assert env.count(prompt, True, "Yes") == len(wrapped) > len(ids)
