"""Both recipes by the command line, written by a server that speaks OpenAI's protocol, and learnt from."""

import json

import pytest

from harness.cli import invoke

from ..harness.synthesis.test_endpoint import Server
from .test_hierarchical import SIZES as HIERARCHICAL
from .test_hierarchical import books
from .test_selflong import SIZES as SELFLONG
from .test_selflong import collection

WRITTEN = {
    "Question:": " What did the keeper find near the harbour in that year?\n\nAnswer: An old lamp of type 3, near b.",
    "Summary:": "A keeper found a lamp in that year.",
    "Instruction:": "Compare what several papers say about the glacier and its keeper.",
    "Response:": "All of the papers agree that a keeper found a lamp.",
}


def reply(body, number):
    prompt = body["messages"][0]["content"]
    text = next(words for end, words in WRITTEN.items() if prompt.endswith(end))
    return 200, {
        "choices": [{"message": {"content": text}, "finish_reason": "stop"}],
        "usage": {"completion_tokens": 9},
    }


@pytest.mark.parametrize("recipe", ["hierarchical", "selflong"])
def test_a_recipe_is_written_by_an_endpoint_and_learnt(recipe, tiny_folder, tmp_path, capsys):
    server = Server(reply)
    sizes = HIERARCHICAL if recipe == "hierarchical" else SELFLONG
    path = (books if recipe == "hierarchical" else collection)(tmp_path / "d.jsonl")
    words = ["synth", "--recipe", recipe, "--count", 3, "--model", tiny_folder, "--device", "cpu"]
    words += ["--generator", server.url, "--generator-model", "m", "--out", tmp_path / "out"]
    for name, value in {"documents": path, **sizes}.items():
        words += ["--set", f"{name}={value}"]
    try:
        assert invoke([str(w) for w in words]) == 0, capsys.readouterr().err
        asked = len(server.seen)
        assert asked > 10
        assert invoke([str(w) for w in words]) == 0 and len(server.seen) == asked, "the pool is complete"
    finally:
        server.http.shutdown()
    rows = [json.loads(line) for line in (tmp_path / "out" / "data.jsonl").read_text().splitlines()]
    assert len(rows) == 3
    fit = ["fit", "-m", "rope_scaling", "--model", tiny_folder, "--device", "cpu", "--data", tmp_path / "out"]
    fit += ["--to-window", 8192, "--max-length", 8192, "--min-length", 2, "--chat-prompts", "--max-steps", 1]
    fit += ["--batch-size", 1, "--rank", 2, "--recompute", "--out", tmp_path / "a"]
    assert invoke([str(w) for w in fit]) == 0, capsys.readouterr().err
    card = json.loads((tmp_path / "a" / "adapter.json").read_text())
    [source] = card["data"]["sources"]
    assert source["taken"] == 3 and 0 < source["labelled"] <= source["tokens"]
    assert (source["labelled"] < source["tokens"] / 2) == (recipe == "hierarchical"), "answers, or everything"
