"""``--budget``: every method that can aim keeps to it, in entries and in bytes, and says where it could not."""

import json
from pathlib import Path

import pytest

from harness import Decoding, Prompt, UsageError, registry
from harness.cli import invoke
from harness.contracts.budget import Budget, entry_bytes
from harness.evaluation.plan import aim
from harness.evaluation.settings import RunSettings
from harness.inference.meter import observe
from harness.prompts import tokenize
from harness.results import load_run
from harness.suites.matrix import _word
from harness.suites.settings import checked_settings

OPTIONS = {
    "streaming": {"chunk": 16},
    "rag": {"chunk": 8},
    "summary": {"chunk": 60, "length": 6},
    "beacon": {"interval": 16, "margin": 8},
    "lora_experts": {"interval": 16, "margin": 8},
    "gist": {"segment": 16, "memory": 8},
    "two_pass": {"interval": 16, "calibration_contexts": 2},
}


def asked(model, sentences=20):
    text = "the sky is blue and the sun is yellow " * sentences
    return tokenize(Prompt("Read. ", text, " Where is it?", "Where is it?"), model)


def begun(model, name, budget, prompt, **options):
    cls = registry.method(name).cls
    method = cls(model, cls.Options.parse({**OPTIONS[name], **options}, name))
    aim(method, budget)
    method.prepare([prompt], Decoding(3))
    with observe(model.network, model.device, 1) as meter:
        [found] = method.compress_and_generate([prompt], Decoding(3))
    assert meter.started == [found.kv_tokens]
    return found.kv_tokens, meter.kv_bytes


@pytest.mark.parametrize("name", OPTIONS)
def test_a_method_keeps_to_its_budget(tiny, name):
    prompt = asked(tiny)
    kept = [
        begun(tiny, name, budget, prompt)[0] for budget in (60, 100, 10_000 if name != "streaming" else 120)
    ]
    assert kept[0] <= 60 and kept[1] <= 100
    assert kept[0] < kept[1] or name == "summary"  # one round of summaries may fit both
    assert kept[2] >= (100 if name == "gist" else min(len(prompt) - 1, 120))


def test_bytes_are_entries_of_the_models_type(tiny):
    size = entry_bytes(tiny.config, tiny.dtype)
    entries, held = begun(tiny, "streaming", f"{100 * size // 1024}KiB", asked(tiny))
    assert entries == (100 * size // 1024 * 1024) // size and held == entries * size


def test_plain_is_cut_and_a_run_says_what_was_held(tiny_folder, tmp_path, capsys):
    common = ["run", "--model", str(tiny_folder), "--device", "cpu", "--out", str(tmp_path), "--json"]
    common += ["--set", "passkey.lengths=200", "--set", "passkey.depths=50", "-t", "passkey"]
    assert invoke([*common, "-m", "plain", "--budget", "100"]) == 0
    [record] = load_run(Path(json.loads(capsys.readouterr().out)["folder"])).records.values()
    assert 80 < record.measured.kv_tokens <= 100 and record.truncation.truncated
    assert invoke([*common, "-m", "beacon", "--interval", "128", "--budget", "5"]) == 0
    folder = Path(json.loads(capsys.readouterr().out)["folder"])
    run = load_run(folder)
    assert run.identity["budget"] == 5
    [record] = run.records.values()
    assert record.measured.kv_tokens > 5 and "more KV entries than --budget" in record.details["notes"][-1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-m", "plain", "--budget", "16Mi"], "give KV entries (1024) or bytes"),
        (["-m", "plain", "--budget", "0"], "must be at least 1"),
        (["-m", "plain", "--budget", "1.5"], "a whole number"),
        (["-m", "plain", "--budget", "0.0001KiB"], "must be at least 1"),
        (["-m", "plain", "--budget", "0.01KiB"], "less than one KV entry"),
        (["-m", "streaming", "--budget", "4"], "more than --sinks 4"),
        (["-m", "streaming", "--recent", "20", "--budget", "40"], "give one"),
        (["-m", "beacon", "--interval", "32", "--ratio", "8", "--budget", "40"], "give one"),
        (["-m", "rag", "--chunk", "50", "--budget", "40"], "lower --chunk"),
        (["-m", "plain", "--budget", "20"], "plain can read under --budget 20"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused_in_a_line(tiny_folder, tmp_path, capsys, words, said):
    words = ["run", *words, "--model", str(tiny_folder), "--device", "cpu", "--out", str(tmp_path)]
    assert invoke([*words, "-t", "passkey", "--chunk", "16"] if words[2] == "streaming" else words) == 2
    err = capsys.readouterr().err
    assert said in " ".join(err.split()) and not list(tmp_path.iterdir())


def test_a_method_that_cannot_aim_says_so(tiny):
    from ..testing.ports import Gist

    with pytest.raises(UsageError, match="cannot aim"):
        aim(Gist(tiny, Gist.Options()), 100)


def test_a_suite_may_say_it_and_a_run_without_keeps_its_hash():
    assert checked_settings({"budget": 256}) == {"budget": 256} and RunSettings().budget is None
    assert Budget.parse("16 MiB").size == 2**24 and Budget.parse(_word(256)).entries == 256
