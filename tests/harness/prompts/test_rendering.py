"""The place of the context must survive template and tokenizer: truncation and compression rely on it."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import Prompt, UsageError
from harness.models import loading
from harness.prompts.rendering import render, tokenize, trim
from harness.testing.tiny import make_model, make_tokenizer

HEADER, FOOTER = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
TRIMMING = "<|im_start|>user\n{{ messages[0]['content'] | trim }}<|im_end|>\n<|im_start|>assistant{{ '\\n' }}"


def with_template(folder, template, **changes):
    return loading.load(str(make_model(folder, tokenizer=make_tokenizer(template), **changes)), device="cpu")


def context_text(tokenized, model):
    return model.tokenizer.decode(tokenized.ids[tokenized.context_start : tokenized.context_end])


def test_render_puts_the_template_around_the_outer_parts(tiny):
    rendered = render(Prompt("Read: ", "long text", "\nQ?"), tiny, chat=True, answer_prefix="A: ")
    assert rendered == Prompt(HEADER + "Read: ", "long text", "\nQ?" + FOOTER + "A: ")


def test_without_chat_only_the_answer_prefix_is_added(tiny):
    assert render(Prompt("a", "b", "c"), tiny, chat=False, answer_prefix="d") == Prompt("a", "b", "cd")


@pytest.mark.parametrize("text", ["assistant", "user", "\n", "", "<|im_start|>", "<|im_end|>\n"])
def test_words_of_the_template_in_the_prompt_do_not_move_it(tiny, text):
    assert render(Prompt("", text, ""), tiny, chat=True) == Prompt(HEADER, text, FOOTER)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (Prompt(" \n a", " b ", "c\n\n"), ("a", " b ", "c")),
        (Prompt("", "  b  ", ""), ("", "b", "")),
        (Prompt(" ", "\tb", " c "), ("", "b", " c")),
        (Prompt("a ", " ", " "), ("a", "", "")),
        (Prompt(" ", " ", " "), ("", "", "")),
        (Prompt("a", "b", "c"), ("a", "b", "c")),
    ],
)
def test_a_template_that_trims(tmp_path, prompt, expected):
    model = with_template(tmp_path, TRIMMING)
    prefix, context, suffix = expected
    rendered = render(prompt, model, chat=True)
    assert rendered == Prompt(HEADER + prefix, context, suffix + FOOTER)
    assert rendered.text == model.render_chat(prompt.text)


def test_a_template_that_rewrites_is_refused(tmp_path):
    model = with_template(tmp_path, "{{ messages[0]['content'] | upper }}")
    with pytest.raises(UsageError, match="rewrites the prompt"):
        render(Prompt("a", "b", "c"), model, chat=True)


def test_trim_over_several_parts():
    assert trim(Prompt("ab", "cd", "ef"), 3, 1) == Prompt("", "d", "e")
    assert trim(Prompt("ab", "cd", "ef"), 0, 5) == Prompt("a", "", "")
    assert trim(Prompt("ab", "cd", "ef"), 5, 0) == Prompt("", "", "f")
    assert trim(Prompt("ab", "cd", "ef"), 0, 0) == Prompt("ab", "cd", "ef")


words = st.text(alphabet="ab é北\N{SLIGHTLY SMILING FACE}\n.\t1", max_size=30)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prefix=words, context=words, suffix=words, chat=st.booleans())
def test_the_three_parts_of_the_ids_are_the_whole_in_order(tiny, prefix, context, suffix, chat):
    prompt = Prompt(prefix, context, suffix)
    tokenized = tokenize(render(prompt, tiny, chat=chat), tiny)
    assert 0 <= tokenized.context_start <= tokenized.context_end < len(tokenized)
    assert tokenized.head_ids + tokenized.suffix_ids == tokenized.ids and tokenized.suffix_ids
    expected = tiny.tokenizer(tokenized.prompt.text)["input_ids"]
    assert list(tokenized.ids) == expected
    assert tokenized.ids.count(tiny.tokenizer.bos_token_id) == 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prefix=words, context=words, suffix=words)
def test_context_ids_decode_to_the_context_where_borders_fall_between_tokens(tiny, prefix, context, suffix):
    # The template's special tokens are never merged with their neighbours, so they make clean borders.
    prompt = Prompt(prefix + "<|im_start|>", context, "<|im_end|>" + suffix)
    tokenized = tokenize(render(prompt, tiny, chat=True), tiny)
    assert context_text(tokenized, tiny) == context
    assert tiny.tokenizer.decode(tokenized.suffix_ids).startswith("<|im_end|>" + suffix)


def test_a_straddling_token_belongs_to_the_earlier_part(tiny):
    ids = tiny.tokenizer("is green", add_special_tokens=False)["input_ids"]
    assert tiny.tokenizer.convert_ids_to_tokens(ids)[-1] == "Ġgreen"
    tokenized = tokenize(Prompt("is gr", "een", " is"), tiny)
    assert tokenized.context_start == tokenized.context_end
    assert tiny.tokenizer.decode(tokenized.suffix_ids) == " is"


def test_a_bos_in_the_text_is_not_doubled(tiny):
    bos = tiny.tokenizer.bos_token_id
    assert tokenize(Prompt("<s>The", " sky", " is"), tiny).ids[:2] != (bos, bos)
    assert (
        tokenize(Prompt("<s>The", " sky", " is"), tiny).ids
        == tokenize(Prompt("The", " sky", " is"), tiny).ids
    )


def test_empty_context_and_empty_suffix(tiny):
    empty = tokenize(Prompt("The sky", "", " is"), tiny)
    assert empty.context_start == empty.context_end
    assert tiny.tokenizer.decode(empty.suffix_ids) == " is"
    last = tokenize(Prompt("The", " sky is blue", ""), tiny)
    assert len(last.suffix_ids) == 1, "the last token of the context stands in for the question"


def test_a_prompt_without_a_token_is_refused(tmp_path):
    tokenizer = make_tokenizer(None)
    from tokenizers import processors

    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    model = loading.load(str(make_model(tmp_path, tokenizer=tokenizer)), device="cpu")
    with pytest.raises(UsageError, match="empty"):
        tokenize(Prompt("", "", ""), model)
