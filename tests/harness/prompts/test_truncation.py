"""The truncation rules: what each keeps, how much, and whether the question and the answer are still there."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from harness import Prompt, UsageError
from harness.prompts.tokenization import token_ids
from harness.prompts.truncation import RULES, split_again, truncate

FILLER = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. "
PROMPT = Prompt("Answer the question. ", FILLER * 10, "\n\nWhat is the passkey?\n")


def count(tokenizer, text):
    """Tokens as a prompt has them: what spells a special token in it is text."""
    return len(token_ids(tokenizer, text, data=True))


def cut(tiny, prompt, rule, limit, *references):
    return truncate(prompt, rule, limit, tiny.tokenizer, references)


def official_middle(tokenizer, prompt, max_length):
    """LongBench's ``get_pred``, word for word but for the return type of the tokenizer."""
    tokenized_prompt = tokenizer(prompt, truncation=False)["input_ids"]
    if len(tokenized_prompt) > max_length:
        half = int(max_length / 2)
        prompt = tokenizer.decode(tokenized_prompt[:half], skip_special_tokens=True) + tokenizer.decode(
            tokenized_prompt[-half:], skip_special_tokens=True
        )
    return prompt


def test_the_rules_are_those_of_the_manual():
    assert RULES == ("middle", "middle-exact", "left", "right", "context-end", "none")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("limit", [None, 10_000])
def test_what_fits_is_left_as_it_is(tiny, rule, limit):
    kept, facts = cut(tiny, PROMPT, rule, limit)
    tokens = count(tiny.tokenizer, PROMPT.text)
    assert kept is PROMPT
    assert vars(facts) == {
        "rule": rule,
        "limit": limit,
        "tokens_before": tokens,
        "tokens_after": tokens,
        "truncated": False,
        "answer_in_context": None,
        "answer_survives": None,
    }
    assert cut(tiny, PROMPT, rule, tokens)[0] is PROMPT, "the limit itself fits"


@pytest.mark.parametrize("limit", [2, 3, 40, 41, 100, 254])
def test_middle_is_longbenchs(tiny, limit):
    kept, facts = cut(tiny, PROMPT, "middle", limit)
    assert kept.text == official_middle(tiny.tokenizer, PROMPT.text, limit)
    assert facts.truncated and facts.tokens_before == count(tiny.tokenizer, PROMPT.text)
    assert facts.tokens_after == count(tiny.tokenizer, kept.text)


@pytest.mark.parametrize("limit", [2, 3, 40, 41, 100, 254])
def test_middle_exact_is_that_of_longbench_v2(tiny, limit):
    kept, facts = cut(tiny, PROMPT, "middle-exact", limit)
    ids = tiny.tokenizer(PROMPT.text)["input_ids"]
    ids = ids[: limit // 2] + ids[-limit // 2 :]
    assert len(ids) == limit, "an odd limit is used up"
    assert kept.text == tiny.tokenizer.decode(ids, skip_special_tokens=True)
    assert facts.truncated and kept.suffix == PROMPT.suffix[-len(kept.suffix) :]


def test_middle_keeps_instruction_and_question_in_their_places(tiny):
    kept, facts = cut(tiny, PROMPT, "middle", 60)
    assert kept.prefix == PROMPT.prefix and kept.suffix == PROMPT.suffix
    assert PROMPT.context.startswith(kept.context[:20]) and PROMPT.context.endswith(kept.context[-20:])
    assert facts.tokens_after <= 61


def test_left_keeps_the_end_and_right_the_beginning(tiny):
    left, facts = cut(tiny, PROMPT, "left", 60)
    assert PROMPT.text.endswith(left.text) and left.prefix == "" and left.suffix == PROMPT.suffix
    assert left.context and PROMPT.context.endswith(left.context)
    assert facts.truncated and 58 <= facts.tokens_after <= 60, "the BOS that is put back is counted"
    right, facts = cut(tiny, PROMPT, "right", 60)
    assert PROMPT.text.startswith(right.text) and right.suffix == "" and right.prefix == PROMPT.prefix
    assert right.context and PROMPT.context.startswith(right.context)
    assert facts.truncated and facts.tokens_after <= 60


def test_left_and_right_reach_into_question_and_instruction(tiny):
    left, _ = cut(tiny, PROMPT, "left", 4)
    assert (left.prefix, left.context) == ("", "") and PROMPT.suffix.endswith(left.suffix) and left.suffix
    right, _ = cut(tiny, PROMPT, "right", 4)
    assert (right.context, right.suffix) == ("", "") and PROMPT.prefix.startswith(right.prefix)


def test_one_token_too_many_is_cut_by_every_rule(tiny):
    tokens = count(tiny.tokenizer, PROMPT.text)
    for rule in ("middle", "left", "right", "context-end"):
        kept, facts = cut(tiny, PROMPT, rule, tokens - 1)
        assert facts.truncated and kept.text != PROMPT.text and facts.tokens_after < tokens


class Replacing:
    """A token a character; what was cut comes back with a replacement character, as half an emoji does."""

    added_tokens_decoder = {}  # noqa: RUF012

    def __call__(self, text, add_special_tokens=True):
        return {"input_ids": [ord(char) for char in text]}

    def decode(self, ids, skip_special_tokens):
        return "".join(map(chr, ids)) + "?" * bool(ids)


def test_a_text_that_was_cut_says_so_even_if_it_has_as_many_tokens():
    kept, facts = truncate(Prompt("", "abcd", ""), "right", 3, Replacing())
    assert kept.text == "abc?" and facts.tokens_after == facts.tokens_before == 4
    assert facts.truncated and facts.truncated is True


def test_context_end_cuts_nothing_but_the_end_of_the_context(tiny):
    for limit in (40, 61, 100, 200):
        kept, facts = cut(tiny, PROMPT, "context-end", limit)
        assert kept.prefix == PROMPT.prefix and kept.suffix == PROMPT.suffix
        assert kept.context and PROMPT.context.startswith(kept.context) and facts.truncated
        assert limit - 2 <= facts.tokens_after <= limit, "as much as fits"


def test_context_end_refuses_a_question_that_is_too_long_itself(tiny):
    fixed = count(tiny.tokenizer, PROMPT.prefix + PROMPT.suffix)
    with pytest.raises(UsageError, match=rf"take {fixed} tokens, over the limit of {fixed - 1}"):
        cut(tiny, PROMPT, "context-end", fixed - 1)
    assert cut(tiny, PROMPT, "context-end", fixed)[0].suffix == PROMPT.suffix


def test_none_refuses_with_the_arithmetic(tiny):
    tokens = count(tiny.tokenizer, PROMPT.text)
    with pytest.raises(UsageError) as caught:
        cut(tiny, PROMPT, "none", 100)
    message = str(caught.value)
    assert f"a prompt of {tokens} tokens is over the limit of 100" in message and "--truncate none" in message
    assert "\n" not in message


# --- is the answer still there?


@pytest.mark.parametrize(
    ("rule", "depth", "survives"),
    [
        ("middle", 0, True),
        ("middle", 5, False),
        ("middle", 10, True),
        ("left", 0, False),
        ("left", 10, True),
        ("right", 0, True),
        ("right", 10, False),
        ("context-end", 0, True),
        ("context-end", 10, False),
    ],
)
def test_whether_the_answer_survives_is_recorded(tiny, rule, depth, survives):
    context = FILLER * depth + "The passkey is 67890. " + FILLER * (10 - depth)
    _, facts = cut(tiny, replace(PROMPT, context=context), rule, 100, "67890")
    assert facts.answer_in_context is True and facts.answer_survives is survives
    assert facts.truncated


def test_one_of_several_answers_is_enough_and_blank_ones_are_none(tiny):
    assert cut(tiny, PROMPT, "left", 60, "nowhere", "again")[1].answer_survives is True
    facts = cut(tiny, PROMPT, "left", 60, "nowhere")[1]
    assert facts.answer_in_context is False and facts.answer_survives is None
    for references in ((), ("", " ")):
        facts = cut(tiny, PROMPT, "left", 60, *references)[1]
        assert facts.answer_in_context is None and facts.answer_survives is None


@pytest.mark.parametrize(
    ("reference", "context", "there"),
    [
        ("no", "Nobody knows.", False),
        ("no", "They said no.", True),
        ("12", "There are 123 of them.", False),
        ("yes", "Eyes, and a yes!", True),
        ("(a|b)", "Neither a nor b.", False),
        ("(a|b)", "It is (a|b) then.", True),
        ("北京", "他在北京工作", True),
        ("U.S.", "In the U.S. again", True),
    ],
)
def test_an_answer_is_looked_for_as_words_of_its_own(tiny, reference, context, there):
    facts = cut(tiny, Prompt("", context, ""), "middle", None, reference)[1]
    assert facts.answer_in_context is there


def test_an_answer_in_the_question_is_none_in_the_context(tiny):
    prompt = replace(PROMPT, suffix=PROMPT.suffix + "Is it 67890?" * 20)
    for rule in ("middle", "left"):
        facts = cut(tiny, prompt, rule, 60, "67890")[1]
        assert facts.answer_in_context is False and facts.answer_survives is None


def test_an_answer_lost_from_the_context_is_lost_even_if_the_question_names_it(tiny):
    # The halves reach into the question, whose words must not be taken for the context's.
    prompt = Prompt("", FILLER + "67890 " + FILLER, "\nIs it 67890, 67890 or 67890?" * 30)
    facts = cut(tiny, prompt, "left", 40, "67890")[1]
    assert facts.answer_in_context is True and facts.answer_survives is False


# --- where the parts are afterwards


@pytest.mark.parametrize(
    ("head", "tail", "expected"),
    [
        ("PPcc", "ccSS", ("PP", "cccc", "SS")),
        ("PPcc", "S", ("PP", "cc", "S")),
        ("P", "cSS", ("P", "c", "SS")),
        ("", "cSS", ("", "c", "SS")),
        ("", "PPccccSS", ("PP", "cccc", "SS")),
        ("", "S", ("", "", "S")),
        ("PPccccS", "S", ("PP", "cccc", "SS")),
        ("P", "PccccSS", ("PP", "cccc", "SS")),
        ("PPcc", "", ("PP", "cc", "")),
        ("P", "", ("P", "", "")),
        ("", "", ("", "", "")),
    ],
)
def test_the_parts_are_found_again(head, tail, expected):
    assert split_again(Prompt("PP", "cccc", "SS"), head, tail) == Prompt(*expected)


text = st.text(alphabet="ab é北\N{SLIGHTLY SMILING FACE}\n.\t1<|im_end|>", max_size=60)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prefix=text, context=text, suffix=text, rule=st.sampled_from(RULES), limit=st.integers(1, 60))
@example(prefix="", context="\N{SLIGHTLY SMILING FACE}" * 20, suffix="", rule="middle", limit=7)
@example(prefix="a" * 50, context="", suffix="b" * 50, rule="middle", limit=30)
def test_whatever_the_text_the_limit_holds_and_no_character_is_lost_between_parts(
    tiny, prefix, context, suffix, rule, limit
):
    prompt = Prompt(prefix, context, suffix)
    try:
        kept, facts = cut(tiny, prompt, rule, limit)
    except UsageError as error:
        assert str(limit) in str(error)
        assert rule == "none" or (rule == "context-end" and count(tiny.tokenizer, prefix + suffix) > limit)
        return
    assert facts.tokens_before == count(tiny.tokenizer, prompt.text)
    assert facts.tokens_after == count(tiny.tokenizer, kept.text)
    assert facts.truncated is (kept.text != prompt.text)
    assert facts.tokens_before > limit or not facts.truncated
    # A token split in the middle of a character may come back as several.
    drift = {"context-end": 0, "none": 0, "right": 4}.get(rule, 8)
    assert facts.tokens_after <= limit + drift
    if rule == "middle" and limit > 1:
        assert kept.text == official_middle(tiny.tokenizer, prompt.text, limit)
    if rule == "context-end" and facts.truncated:
        assert (kept.prefix, kept.suffix) == (prefix, suffix)
