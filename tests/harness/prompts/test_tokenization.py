"""Texts in blocks give the tokens of the whole text, whatever is in them."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import Prompt
from harness.prompts import tokenization
from harness.prompts.rendering import tokenize
from harness.testing.tiny import make_tokenizer

TOKENIZER = make_tokenizer()
words = st.text(alphabet="abcdefg é北\N{SLIGHTLY SMILING FACE}\n\t.1", min_size=1, max_size=40)


def small_blocks(monkeypatch, block=200, overlap=80):
    monkeypatch.setattr(tokenization, "BLOCK", block)
    monkeypatch.setattr(tokenization, "OVERLAP", overlap)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(words, min_size=1, max_size=60), st.booleans())
def test_blocks_give_the_tokens_of_the_whole(monkeypatch, parts, special):
    text = " ".join(parts)
    whole = tokenization._at_once(TOKENIZER, text, special)
    with monkeypatch.context() as patch:
        small_blocks(patch)
        found = tokenization.encode(TOKENIZER, text, special=special)
        assert tokenization.token_ids(TOKENIZER, text) == TOKENIZER(text)["input_ids"]
    assert (found.ids, found.starts, found.stops) == (whole.ids, whole.starts, whole.stops)


def test_long_texts_are_really_read_in_blocks(monkeypatch):
    small_blocks(monkeypatch)
    seen = []

    def watching(text, **kwargs):
        seen.append(len(text))
        return TOKENIZER(text, **kwargs)

    text = "The grass is green. The sky is blue. " * 50
    found = tokenization.encode(watching, text)
    assert list(found.ids) == TOKENIZER(text)["input_ids"]
    assert max(seen) <= 200 and len(seen) > len(text) / 200


@pytest.mark.parametrize("text", ["ab" * 900, "\n" * 900, "a" * 900])
def test_a_text_no_blocks_can_agree_about_is_read_at_once(monkeypatch, text):
    small_blocks(monkeypatch)
    assert list(tokenization.encode(TOKENIZER, text).ids) == TOKENIZER(text)["input_ids"]


def test_the_context_is_found_in_blocks_as_in_the_whole(monkeypatch, tiny):
    prompt = Prompt("Read this. ", "The sky is blue. Here we go. " * 40, "\nWhat is the passkey?")
    whole = tokenize(prompt, tiny)
    small_blocks(monkeypatch)
    assert tokenize(prompt, tiny) == whole
    assert tiny.tokenizer.decode(whole.suffix_ids).endswith("What is the passkey?")
