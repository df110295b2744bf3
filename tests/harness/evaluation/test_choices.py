"""Choices as tokens after a prompt."""

import pytest

from harness import Prompt, Sample, UsageError
from harness.evaluation.choices import in_tokens


def asked(tiny, text, *choices):
    return in_tokens(
        Sample("1", Prompt("", "", text), (), 1, choices=choices), Prompt("", "", text), tiny.tokenizer
    )


def test_a_choice_that_a_token_swallows_is_tokenised_alone(tiny):
    """ "passk" is more tokens than "passkey", which is one: no token is left for "ey"."""
    found = asked(tiny, "The passk", "ey", " is")
    alone = tiny.tokenizer("ey", add_special_tokens=False)["input_ids"]
    assert found.alone == (0,) and list(found.continuations[0]) == alone
    assert list(found.continuations[1]) == tiny.tokenizer(" is", add_special_tokens=False)["input_ids"]
    assert asked(tiny, "The sky", " is").alone == ()


def test_a_choice_without_a_letter_is_refused(tiny):
    with pytest.raises(UsageError, match="the choice '' has no token"):
        asked(tiny, "The sky", "")
