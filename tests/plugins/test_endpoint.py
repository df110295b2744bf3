"""`endpoint` against servers of this machine: the answers of `plain`, question marks, and every way to go wrong."""

import json
from functools import partial
from pathlib import Path

import pytest

from harness import Decoding, Prompt, UsageError
from harness.cli import invoke
from harness.errors import HarnessError
from harness.models import loading
from harness.plugins.endpoint import Endpoint
from harness.plugins.plain import Plain
from harness.prompts import tokenize
from harness.results import load_run
from harness.testing import check_method, tiny_model

from ..helpers.serving import completions, serving


def asked(model, words="the sky is blue "):
    return tokenize(Prompt("Read. ", words * 12, " Where is it?", "Where is it?"), model)


def made(model, url, wait=0.001, **options):
    method = Endpoint(model, Endpoint.Options.parse({"url": url, **options}, "it"))
    method.server.wait = wait
    return method


def said(text="blue", finish="stop", tokens=None):
    usage = {} if tokens is None else {"usage": {"prompt_tokens": tokens}}
    return 200, {"choices": [{"text": text, "finish_reason": finish}], **usage}


@pytest.mark.parametrize("send", ["tokens", "text"])
def test_answers_are_those_of_the_model_on_the_server(tiny, send):
    prompts = [asked(tiny), asked(tiny, "the grass is green ")]
    expected = Plain(tiny, Plain.Options()).compress_and_generate(prompts, Decoding(6))
    with serving(completions(tiny), ["tiny-on-a-server"]) as server:
        method = made(tiny, server.url + "/v1", send=send)
        method.prepare(prompts, Decoding(6))
        found = method.compress_and_generate(prompts, Decoding(6))
    assert [f.text for f in found] == [e.text for e in expected]
    assert {(s["path"], s["model"], s["temperature"], s["max_tokens"]) for s in server.seen} == {
        ("/v1/completions", "tiny-on-a-server", 0, 6)
    }
    assert [f.prompt_tokens for f in found] == [len(p) for p in prompts]
    assert not any("notes" in f.details for f in found)
    assert "tiny-on-a-server" in method.facts()["warning"]


def test_check_passes_it():
    model = tiny_model(256)
    with serving(completions(model), ["m"]) as server:
        results = check_method("endpoint", {"url": server.url}, model=partial(tiny_model, 256))
    assert not [r for r in results if not r.ok]
    passed = {r.name for r in results if r.status == "ok"}
    assert {
        "contract",
        "options",
        "answers",
        "repeat",
        "decoding",
        "order",
        "batch",
        "limit",
        "process",
    } <= passed


def test_a_run_reads_no_weights_and_shows_what_it_could_not_see(
    tiny, tiny_folder, tmp_path, capsys, monkeypatch
):
    from harness.models.model import LanguageModel

    monkeypatch.setattr(LanguageModel, "network", property(lambda self: pytest.fail("weights were read")))
    common = ["--model", str(tiny_folder), "--device", "cpu", "--out", str(tmp_path)]
    reply = lambda body, n: said("12345", tokens=len(body["prompt"]))  # noqa: E731
    with serving(reply, ["m"]) as server:
        words = ["run", "-m", "endpoint", "--url", server.url, *common, "--set", "passkey.lengths=190"]
        assert invoke(words) == 0
    shown = capsys.readouterr().out
    assert shown.count("?") >= 6 and "answers are those of m" in " ".join(shown.split())
    [folder] = [p for p in tmp_path.iterdir() if (p / "run.json").is_file()]
    for record in load_run(Path(folder)).records.values():
        cost = record.cost
        assert cost.seconds > 0 and record.measured.kv_tokens == 0 and not record.measured.verified
        assert {cost.prefill_seconds, cost.decode_seconds, cost.kv_bytes, cost.peak_bytes, cost.forwards} == {
            None
        }
    assert invoke(["report", str(folder), "--all"]) == 0
    assert capsys.readouterr().out.count(" ?") >= 5
    assert invoke(["report", str(folder), "--format", "json"]) == 0
    json.loads(capsys.readouterr().out)


def test_choices_and_a_template_in_a_template_are_refused(tiny, tiny_folder, tmp_path):
    chatty = loading.load(str(tiny_folder), device="cpu")
    if chatty.chat != "never":
        with pytest.raises(UsageError, match="add --chat never"):
            made(chatty, "http://localhost:1", send="chat")
    never = loading.load(str(tiny_folder), device="cpu", chat="never")
    with serving(lambda body, n: (200, {"choices": [{"message": {"content": "so"}}]}), ["m"]) as server:
        [found] = made(never, server.url, send="chat").compress_and_generate([asked(never)], Decoding(4))
    assert found.text == "so" and server.seen[0]["messages"][0]["content"].startswith("Read. ")


def test_stop_tokens_end_an_answer_here(tiny):
    newline = tiny.tokenizer("\n", add_special_tokens=False)["input_ids"]
    with serving(lambda body, n: said("blue\nand more")) as server:
        method = made(tiny, server.url, name="m")
        [found] = method.compress_and_generate([asked(tiny)], Decoding(20, stop_ids=(newline[-1],)))
    assert found.stop_reason == "stop" and found.text == "blue\n" and found.token_ids[-1] == newline[-1]


def test_a_server_that_cuts_tokenises_anew_or_streams_is_told(tiny):
    prompt = asked(tiny)
    for tokens, words in ((len(prompt) - 20, "cut the prompt"), (len(prompt) + 20, "tokenised it otherwise")):
        with serving(lambda body, n, tokens=tokens: said(tokens=tokens)) as server:
            [found] = made(tiny, server.url, name="m").compress_and_generate([prompt], Decoding(4))
        assert words in found.details["notes"][0] and found.details["server_prompt_tokens"] == tokens
    pieces = [{"choices": [{"text": t, "finish_reason": f}]} for t, f in (("bl", None), ("ue", "stop"))]
    raw = "".join(f"data: {json.dumps(p)}\n\n" for p in pieces) + "data: [DONE]\n\n"
    with serving(lambda body, n: (200, raw.encode())) as server:
        [found] = made(tiny, server.url, name="m").compress_and_generate([prompt], Decoding(9))
    assert found.text == "blue" and found.details["streamed"] and found.stop_reason == "eos"


@pytest.mark.parametrize(
    ("reply", "words", "calls"),
    [
        (lambda body, n: (503, {}) if n < 3 else said("late"), None, 3),
        (lambda body, n: (401, {"error": "no such key"}), "HTTP 401 .*no such key", 1),
        (lambda body, n: (400, {"error": "prompt must be text"}), "takes --send text", 1),
        (lambda body, n: (500, {}), "HTTP 500", 5),
        (lambda body, n: (200, {"hello": 1}), "no completion", 1),
        (lambda body, n: (200, b"data: [DONE]"), "no completion", 1),
        (lambda body, n: said(text=5), "no completion", 1),
    ],
)
def test_a_busy_server_is_asked_again_and_a_failure_is_one_line(tiny, reply, words, calls):
    with serving(reply) as server:
        method = made(tiny, server.url, name="m")
        if words is None:
            assert method.compress_and_generate([asked(tiny)], Decoding(9))[0].text == "late"
        else:
            with pytest.raises(HarnessError, match=words) as caught:
                method.compress_and_generate([asked(tiny)], Decoding(9))
            assert "\n" not in str(caught.value)
    assert len(server.seen) == calls


def test_a_server_that_is_not_there_stops_the_run_before_its_first_sample(tiny_folder, tmp_path, capsys):
    words = [
        "run",
        "-m",
        "endpoint",
        "--url",
        "http://127.0.0.1:9",
        "--model",
        str(tiny_folder),
        "--device",
        "cpu",
    ]
    assert invoke([*words, "--out", str(tmp_path), "--set", "passkey.lengths=190"]) == 2
    err = " ".join(capsys.readouterr().err.split())
    assert "start the server" in err and "127.0.0.1:9" in err
    assert invoke([*words[:4], "nonsense", *words[5:], "--out", str(tmp_path)]) == 2
    assert "write an address" in capsys.readouterr().err
