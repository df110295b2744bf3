"""Methods as lm-eval's model ``harness``: its `hf` model is the reference, its command line the door."""

import json
import shutil
import subprocess
import sys
from importlib import metadata

import pytest

from harness import UsageError
from harness.cli import invoke

from ...helpers.lm_eval_yaml import write_tasks
from ...helpers.running import one_thread


@pytest.fixture
def request_of():
    from lm_eval.api.instance import Instance

    def make(kind, *pairs):
        return [Instance(kind, {}, pair, i, ("t", i, 1)) for i, pair in enumerate(pairs)]

    return make


def door(folder, **changes):
    from harness.interop.lm_eval_model import HarnessLM

    return HarnessLM(**{"model": str(folder), "device": "cpu", **changes})


@pytest.fixture(scope="module")
def reference(tiny_folder):
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(tiny_folder), device="cpu", dtype="float32", batch_size=1)


PAIRS = (
    ("The passkey is 12345. What is the passkey?", " 12345"),
    ("The passkey is 12345. What is the passkey?", " 67890 is the passkey"),
    ("The passkey is ", "12345"),
    ("Question: What is it?\n\n", " There and back again"),
    ("", "The grass is green"),
    ("The sky is blue. " * 9 + "\nAnswer:", " yellow"),
    ("<s>Here we go.", " There"),
)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_plain_gives_the_likelihoods_of_lm_evals_own_model(tiny_folder, reference, request_of, batch_size):
    requests = request_of("loglikelihood", *PAIRS)
    mine = door(tiny_folder, batch_size=batch_size).loglikelihood(requests, disable_tqdm=True)
    theirs = reference.loglikelihood(requests, disable_tqdm=True)
    assert [x for x, _ in mine] == pytest.approx([x for x, _ in theirs], abs=1e-4)
    assert [x for _, x in mine] == [x for _, x in theirs]


def test_plain_gives_the_answers_of_lm_evals_own_model(tiny_folder, reference, request_of):
    wanted = {"until": ["\n", "."], "max_gen_toks": 12}
    requests = request_of("generate_until", *((text, wanted) for text, _ in PAIRS if text))
    mine = door(tiny_folder, batch_size=2).generate_until(requests, disable_tqdm=True)
    assert mine == reference.generate_until(requests, disable_tqdm=True)


def test_a_shared_context_is_read_once_and_everything_is_measured(tiny_folder, request_of):
    lm = door(tiny_folder)
    lm.loglikelihood(request_of("loglikelihood", *PAIRS), disable_tqdm=True)
    found = lm.get_model_info()["harness"]
    measured = found["measured"]
    assert (measured["requests"], measured["prompts"], measured["verified"]) == (7, 6, True)
    assert measured["compression"] == pytest.approx(1.0)
    assert found["sees_question"] is False


def test_a_batch_that_is_run_one_by_one_is_noted(tiny_folder, request_of):
    from harness.contracts import Decoding
    from harness.errors import HarnessError
    from harness.interop.lm_eval_requests import Question

    lm = door(tiny_folder, batch_size=2)

    def answer(batch):
        if len(batch) > 1:
            raise HarnessError("not together")
        return lm.method.run([q.prompt for q in batch], batch[0].decoding)

    [one, other] = [lm.requests.encode(*pair, lm.prefix_token_id)[0] for pair in PAIRS[:2]]
    questions = [Question(prompt, (), [i], Decoding(2)) for i, prompt in enumerate((one, other))]
    kept = []
    lm.requests.run(questions, answer, lambda question, given: kept.append(given), True)
    assert len(kept) == 2
    assert lm.measured.facts()["notes"] == [
        "some requests could not be run in a batch, and were run one by one"
    ]


def test_a_byte_order_mark_in_a_template_is_no_text(tiny_folder):
    lm = door(tiny_folder)
    lm.tokenizer.chat_template = "\ufeff{% for m in messages %}{{ m.content }}{% endfor %}"
    assert lm.apply_chat_template([{"role": "user", "content": "Hi"}]) == "Hi"


def test_long_prompts_keep_their_end_and_say_so_once(tiny_folder, request_of, caplog):
    """lm-eval's model reads one token more than it counts: a window smaller by one makes both the same."""
    from lm_eval.models.huggingface import HFLM

    hf = HFLM(pretrained=str(tiny_folder), device="cpu", dtype="float32", batch_size=1, max_length=255)
    long = "The passkey is 12345. Remember it. " * 50
    requests = request_of("loglikelihood", (long, " 67890"), (long, " There and back again"))
    lm = door(tiny_folder)
    with caplog.at_level("WARNING", logger="harness"):
        mine = lm.loglikelihood(requests, disable_tqdm=True)
    assert [x for x, _ in mine] == pytest.approx(
        [x for x, _ in hf.loglikelihood(requests, disable_tqdm=True)], abs=1e-4
    )
    assert len([r for r in caplog.records if "keep their last tokens" in r.message]) == 1
    assert lm.get_model_info()["harness"]["measured"]["truncated"] == 2
    with pytest.raises(UsageError, match="over the 256 that can be read"):
        door(tiny_folder, truncate="none").loglikelihood(requests, disable_tqdm=True)


def test_a_compressing_method_reads_what_plain_must_cut(tiny_folder, request_of):
    lm = door(tiny_folder, method="beacon", ratio="8", interval=32)
    long = "The passkey is 12345. Remember it. " * 50
    lm.loglikelihood(request_of("loglikelihood", (long, " 67890")), disable_tqdm=True)
    measured = lm.get_model_info()["harness"]["measured"]
    assert measured["truncated"] == 0 and measured["verified"] and measured["compression"] > 4


def test_every_protocol_of_a_run_can_be_asked_for(tiny_folder, request_of):
    long = request_of(
        "loglikelihood", *[("The passkey is 12345. Remember it. " * 20, f" {n}") for n in (6, 7, 8)]
    )

    def asked(**arguments):
        lm = door(tiny_folder, **arguments)
        answers = lm.loglikelihood(long, disable_tqdm=True)
        return answers, lm.get_model_info()["harness"]

    small = {"method": "two_pass", "interval": 32, "calibration_contexts": 2}
    seen, blind = asked(**small)[1], asked(**small, protocol="after")[1]
    assert blind["query_agnostic"] and "query_agnostic" not in seen
    assert (
        blind["identity_hash"]
        == asked(**small, query_agnostic=True)[1]["identity_hash"]
        != seen["identity_hash"]
    )
    (together, once), (apart, each) = asked(), asked(protocol="before")
    assert (once["measured"]["prompts"], each["measured"]["prompts"]) == (1, 3)
    assert [a for a, _ in apart] == pytest.approx([a for a, _ in together], abs=1e-4)
    for arguments, most in (({"max_context": 60}, 60), ({"budget": 50}, 50)):
        found = asked(**arguments)[1]
        assert found["measured"]["kv_tokens"] <= most and found["measured"]["truncated"] == 3
        assert (found.get("max_context"), found.get("budget")) == (
            60 if most == 60 else None,
            50 if most == 50 else None,
        )
    found = asked(method="beacon", interval=16, margin=8, budget="40")[1]
    assert found["measured"]["kv_tokens"] <= 40 and found["measured"]["truncated"] == 0
    assert "untrained" in found["method_facts"]["warning"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"method": "plian"}, "did you mean 'plain'"),
        ({"context_lenght": 128}, "did you mean 'context_length'"),
        ({"method": "beacon", "ratoi": 8}, "did you mean 'ratio'"),
        ({"truncate": "middle"}, "left"),
        ({"batch_size": "auto"}, "at least 1"),
        ({"method": "beacon", "interval": "x"}, "interval"),
        ({"protocol": "never"}, "choose from auto, after, before"),
        ({"method": "rag", "chunk": 16, "protocol": "after"}, "protocol=before runs it once"),
        ({"method": "two_pass", "interval": 32, "protocol": "before", "query_agnostic": True}, "choose one"),
        ({"max_context": 0}, "at least 1"),
        ({"method": "streaming", "chunk": 16, "budget": "2"}, "more than --sinks"),
        ({"budget": "many"}, "give KV entries"),
    ],
)
def test_wrong_arguments_are_one_line(tiny_folder, arguments, words):
    with pytest.raises(UsageError, match=words):
        door(tiny_folder, **arguments)


def test_whole_texts_are_refused(tiny_folder, request_of):
    with pytest.raises(UsageError, match="loglikelihood_rolling"):
        door(tiny_folder).loglikelihood_rolling(request_of("loglikelihood_rolling", ("text",)))


def test_the_entry_point_is_there_for_later_versions_of_lm_eval():
    [point] = metadata.entry_points(group="lm_eval.models", name="harness")
    from harness.interop.lm_eval_model import HarnessLM

    assert point.load() is HarnessLM


@pytest.mark.parametrize("other", [{"method": "beacon"}, {"context_length": 64}, {"max_gen_toks": 9}])
def test_models_that_share_lm_evals_cache_never_answer_for_each_other(
    tiny_folder, request_of, tmp_path, other
):
    from lm_eval.api.model import CachingLM

    extra = {"interval": 32, "ratio": "8"} if "method" in other else {}
    requests = request_of("loglikelihood", ("The passkey is 12345. Remember it. " * 6, " 67890"))
    asked = []

    def through(**arguments):
        lm = door(tiny_folder, **arguments)
        cached = CachingLM(lm, str(tmp_path / "cache.db"))
        found = cached.loglikelihood(requests)
        asked.append(lm.measured.prompts)
        cached.dbdict.close()
        return found

    first = through()
    assert through(**other, **extra) == door(tiny_folder, **other, **extra).loglikelihood(requests)
    assert through() == first
    assert asked == [1, 1, 0], "only what the same model answered before comes from the cache"


def run(tiny_folder, include, out, *words):
    arguments = f"method=plain,model={tiny_folder},device=cpu"
    command = ["run", "--model", "harness", "--model_args", arguments, "--include_path", include]
    command += ["--tasks", "tiny_choice,tiny_generate", "--num_fewshot", "2", "--output_path", out, *words]
    return [str(word) for word in command]


def test_lm_evals_command_line_runs_local_tasks(tiny_folder, tmp_path, no_default_tasks):
    include = write_tasks(tmp_path / "tasks")
    with one_thread():
        status = invoke(["lm-eval", *run(tiny_folder, include, tmp_path / "out", "--log_samples")])
    assert status == 0
    [file] = (tmp_path / "out").glob("**/results_*.json")
    results = json.loads(file.read_text("utf-8"))
    assert set(results["results"]["tiny_choice"]) >= {"acc,none", "acc_norm,none"}
    assert "exact_match,none" in results["results"]["tiny_generate"]
    assert results["config"]["harness"]["measured"]["verified"] is True


@pytest.mark.skipif(shutil.which("git") is None, reason="lm-eval asks git")
def test_outside_a_repository_git_does_not_complain(tmp_path, monkeypatch, capfd):
    """lm-eval asks it for a commit; that there is none is no news."""
    from lm_eval.loggers import utils

    from harness.cli.lmeval import _git_quietly

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert utils.get_git_commit_hash() is None
    assert "not a git repository" in capfd.readouterr().err
    with _git_quietly():
        assert utils.get_git_commit_hash() is None
    assert capfd.readouterr().err == ""
    assert utils.subprocess is subprocess


def test_a_wrong_method_is_one_line_there_too(tiny_folder, tmp_path, capsys, no_default_tasks):
    include = write_tasks(tmp_path / "tasks")
    words = run(tiny_folder, include, tmp_path / "out")
    words[words.index("--model_args") + 1] = "method=plian"
    assert invoke(["lm-eval", *words]) == 2
    assert "did you mean 'plain'" in capsys.readouterr().err


def test_help_of_the_verb_is_lm_evals():
    done = subprocess.run(
        [sys.executable, "-m", "harness", "lm-eval", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "lm-eval" in done.stdout
