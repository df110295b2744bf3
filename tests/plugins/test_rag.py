"""`rag` reads the chunks that answer, whole texts that fit, and says what it read."""

import pytest

from harness import Decoding, Prompt, UsageError
from harness.plugins.rag import Rag
from harness.prompts import tokenize

FILLER = "the sky is blue and the sun is yellow "


def asked(model, before, after, question="Where is the passkey?"):
    text = FILLER * before + "remember the passkey 12345 now " + FILLER * after
    return tokenize(Prompt("Read. ", text, f" {question}", question), model)


def answer(tiny, prompt, budget=None, **options):
    method = Rag(tiny, Rag.Options.parse({"chunk": 16, **options}, "it"))
    if budget is not None:
        method.aim(budget)
    [found] = method.compress_and_generate([prompt], Decoding(3))
    return found


def read(prompt, found, size=16):
    ids = prompt.head_ids.context_ids
    return [ids[i * size : (i + 1) * size] for i in found.details["read"]]


@pytest.mark.parametrize(("before", "after"), [(0, 40), (20, 20), (40, 0)])
def test_the_chunk_that_answers_comes_first(tiny, before, after):
    prompt = asked(tiny, before, after)
    found = answer(tiny, prompt, budget=100)
    best = tiny.tokenizer.decode(read(prompt, found)[0])
    assert "passkey" in best
    assert found.details["relevance"][found.details["read"][0]] == max(found.details["relevance"])
    assert found.prompt_tokens == len(prompt) and found.kv_tokens < 100


def test_budget_and_top_bound_what_is_read(tiny):
    prompt = asked(tiny, 20, 20)
    around = len(prompt) - len(prompt.head_ids.context_ids)
    for options, most in (({"budget": 50 + around}, 48), ({"top": 2}, 32), ({"top": 1, "edges": True}, 48)):
        found = answer(tiny, prompt, **options)
        kept = sum(map(len, read(prompt, found)))
        assert kept <= most and found.kv_tokens == kept + around - 1
    last = len(prompt.head_ids.context_ids) // 16
    assert {0, last} <= set(answer(tiny, prompt, top=1, edges=True).details["read"])


def test_a_text_that_fits_is_read_whole(tiny):
    prompt = asked(tiny, 1, 1)
    found = answer(tiny, prompt, budget=240)
    assert found.kv_tokens == len(prompt) - 1 and not found.details


def test_a_question_that_tells_nothing_apart_is_noted(tiny):
    found = answer(tiny, asked(tiny, 20, 20, "Zzz qqq?"), budget=100)
    assert "the same for all" in found.details["notes"][0]


def test_a_chunk_larger_than_budget_or_window_is_refused(tiny):
    prompt = asked(tiny, 20, 20)
    for options in ({"chunk": 300}, {"chunk": 40, "budget": 39}, {"chunk": 40, "budget": 79, "edges": True}):
        with pytest.raises(UsageError, match="lower --chunk"):
            answer(tiny, prompt, **options)
    with pytest.raises(UsageError, match="raise --budget"):
        answer(tiny, prompt, chunk=8, budget=1 + len(prompt) - len(prompt.head_ids.context_ids))
    with pytest.raises(UsageError, match="leave nothing of a --budget"):
        answer(tiny, prompt, chunk=4, budget=8)
