"""`summary` condenses until it fits, reads what fits as it is, and leaves the instruction alone."""

import pytest

from harness import Decoding, Prompt, UsageError
from harness.inference import write
from harness.plugins._budget import NOT_CONDENSED
from harness.plugins.summary import Summary
from harness.prompts import tokenize

OPTIONS = {"chunk": 60, "length": 10}


def made(tiny, budget=60, **options):
    method = Summary(tiny, Summary.Options.parse({**OPTIONS, **options}, "it"))
    method.aim(budget)
    return method


def asked(tiny, sentences):
    text = "The grass is green. The sky is blue. " * sentences
    return tokenize(Prompt("Read. ", text, " Where?", "Where?"), tiny)


def test_it_condenses_until_it_fits(tiny):
    prompt = asked(tiny, 30)
    [found] = made(tiny).compress_and_generate([prompt], Decoding(3))
    around = len(prompt) - len(prompt.head_ids.context_ids)
    most = 60 - around
    assert (
        found.details["rounds"][-1] <= most < found.details["rounds"][0] or len(found.details["rounds"]) == 1
    )
    assert found.kv_tokens == found.details["rounds"][-1] + around - 1
    assert found.prompt_tokens == len(prompt)


def test_what_fits_is_read_as_it_is(tiny):
    prompt = asked(tiny, 1)
    [found] = made(tiny, budget=len(prompt)).compress_and_generate([prompt], Decoding(3))
    assert found.kv_tokens == len(prompt) - 1 and found.details == {"notes": [NOT_CONDENSED]}


def test_the_instruction_stays(tiny):
    prompt = asked(tiny, 30)
    [state] = made(tiny).compress([prompt.head_ids], [len(prompt.suffix_ids)], Decoding(3))
    other = tokenize(Prompt("Look. ", prompt.prompt.context, " Where?", "Where?"), tiny)
    [changed] = made(tiny).compress([other.head_ids], [len(other.suffix_ids)], Decoding(3))
    assert len(state.cache) == len(changed.cache) + len(prompt.head_ids.prefix_ids) - len(
        other.head_ids.prefix_ids
    )


def test_what_is_written_is_greedy_and_ends(tiny):
    ids = list(asked(tiny, 2).ids)
    [alone], both = write(tiny, [ids], 6), write(tiny, [ids, ids[:10]], 6)
    assert both[0] == alone and 0 < len(alone) <= 6 and not set(alone) & set(tiny.end_ids)


def test_options_that_shorten_nothing_are_refused(tiny):
    for options, said in (({"length": 40}, "lower --length"), ({"chunk": 260}, "lower --chunk")):
        with pytest.raises(UsageError, match=said):
            made(tiny, **options)
