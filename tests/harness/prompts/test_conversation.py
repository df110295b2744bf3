"""Conversations: framed by any template, cut without losing a header, the same tokens as the template's own."""

import dataclasses

import pytest

from harness import Prompt, UsageError
from harness.prompts.conversation import messages_of, prompt_of
from harness.prompts.rendering import render, tokenize
from harness.prompts.truncation import RULES, truncate
from harness.testing.tiny import CHAT_TEMPLATE

TURNS = [
    ("user", "Write a poem about the sky. "),
    ("assistant", "The sky is blue.\nHere we go.\n"),
    ("user", "Write a poem about grass."),
    ("assistant", " The grass is green."),
    ("user", "What is the passkey?"),
]
SYSTEM = ("system", "Answer with one word.")
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
)
STRICT = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}"
)
TRIMS = CHAT_TEMPLATE.replace("message['content']", "message['content'] | trim")
MOVES = (
    "{% set ns = namespace(s='') %}{% for m in messages %}{% if m['role'] == 'system' %}{% set ns.s = m['content'] %}"
    "{% elif loop.last %}[INST]{{ ns.s }}{{ m['content'] }}[/INST]{% elif m['role'] == 'user' %}[INST]"
    "{{ m['content'] }}[/INST]{% else %}{{ m['content'] }}</s>{% endif %}{% endfor %}"
)
MERGES = (
    "{% for m in messages %}{% if m['role'] == 'system' %}[INST]<<{{ m['content'] }}>>{% elif m['role'] == 'user' %}"
    "{% if not (loop.index0 == 1 and messages[0]['role'] == 'system') %}[INST]{% endif %}{{ m['content'] }}[/INST]"
    "{% else %}{{ m['content'] }}</s>{% endif %}{% endfor %}"
)


@pytest.fixture
def spoken(tiny, monkeypatch):
    """The tiny model with another chat template."""

    def speaking(template):
        monkeypatch.setattr(tiny.tokenizer, "chat_template", template)
        tiny.__dict__.pop("chat", None)
        return tiny

    yield speaking
    tiny.__dict__.pop("chat", None)


def own(model, turns):
    spoken = [{"role": role, "content": words} for role, words in turns]
    return model.tokenizer.apply_chat_template(spoken, tokenize=False, add_generation_prompt=True)


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, TRIMS, STRICT + CHAT_TEMPLATE, MERGES])
def test_the_text_is_the_templates_own_and_the_parts_are_found(spoken, template):
    model = spoken(template)
    rendered = render(prompt_of(TURNS), model, chat=True)
    assert rendered.text == own(model, TURNS) and not rendered.turns
    assert rendered.context.startswith("Write a poem about the sky.") and rendered.context.endswith("green.")
    assert "passkey" in rendered.suffix and "passkey" not in rendered.prefix + rendered.context
    tokens = tokenize(rendered, model)
    assert model.tokenizer.decode(tokens.suffix_ids) == rendered.suffix


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, TRIMS, MERGES])
def test_a_system_turn_is_the_prefix(spoken, template):
    model = spoken(template)
    rendered = render(prompt_of([SYSTEM, *TURNS]), model, chat=True)
    assert rendered.text == own(model, [SYSTEM, *TURNS])
    assert SYSTEM[1] in rendered.prefix and SYSTEM[1] not in rendered.context


@pytest.mark.parametrize("template", [NO_SYSTEM + CHAT_TEMPLATE, MOVES])
def test_a_system_turn_that_is_refused_or_moved_begins_the_first_turn(spoken, template):
    model = spoken(template)
    rendered = render(prompt_of([SYSTEM, *TURNS]), model, chat=True)
    first = ("user", f"{SYSTEM[1]}\n\n{TURNS[0][1]}")
    assert rendered.text == own(model, [first, *TURNS[1:]])
    assert SYSTEM[1] in rendered.prefix and rendered.context.startswith("Write a poem")


def test_neighbours_of_one_role_are_one_turn_where_the_template_wants_them_to_alternate(spoken):
    doubled = [TURNS[0], ("user", "And again."), *TURNS[1:]]
    model = spoken(CHAT_TEMPLATE)
    assert render(prompt_of(doubled), model, chat=True).text == own(model, doubled)
    model = spoken(STRICT + CHAT_TEMPLATE)
    merged = [("user", f"{TURNS[0][1]}\n\nAnd again."), *TURNS[1:]]
    assert render(prompt_of(doubled), model, chat=True).text == own(model, merged)


@pytest.mark.parametrize("chat", [True, False])
def test_without_a_template_each_turn_is_named(spoken, chat):
    model = spoken(None) if chat else spoken(CHAT_TEMPLATE)
    rendered = render(prompt_of([SYSTEM, *TURNS]), model, chat=chat, answer_prefix=" It is")
    assert rendered.text.startswith(
        f"{SYSTEM[1]}\n\nUser: {TURNS[0][1]}\n\nAssistant: {TURNS[1][1]}\n\nUser: "
    )
    assert rendered.suffix == "\n\nUser: What is the passkey?\n\nAssistant: It is"


def test_a_template_that_leaves_turns_out_or_rewrites_them_is_refused(spoken):
    model = spoken("{{ messages[-1]['content'] }}")
    with pytest.raises(UsageError, match="leaves turns out"):
        render(prompt_of(TURNS), model, chat=True)
    model = spoken(CHAT_TEMPLATE.replace("message['content']", "message['content'].replace('sky', 'sun')"))
    with pytest.raises(UsageError, match="rewrites the words"):
        render(prompt_of(TURNS), model, chat=True)


@pytest.mark.parametrize(
    ("turns", "said"),
    [
        (TURNS[:-1], "ends with assistant"),
        ([], "ends with nobody"),
        ([TURNS[0], SYSTEM, TURNS[4]], "turn 2 of the conversation is by 'system'"),
        ([("tool", "x"), TURNS[4]], "turn 1 of the conversation is by 'tool'"),
    ],
)
def test_what_is_no_conversation_is_refused(turns, said):
    with pytest.raises(UsageError, match=said):
        prompt_of(turns)


@pytest.mark.parametrize("rule", [r for r in RULES if r != "none"])
def test_however_it_is_cut_no_header_is_lost_and_every_template_takes_it(spoken, rule):
    model = spoken(STRICT + CHAT_TEMPLATE)
    turns = [(("user", "assistant")[n % 2], f"Here is text {n}: the sky is blue. ") for n in range(9)]
    prompt = prompt_of(turns)
    whole = truncate(prompt, rule, None, model.tokenizer)[1].tokens_before
    for limit in range(40, whole):
        cut, facts = truncate(prompt, rule, limit, model.tokenizer)
        assert facts.truncated and len(cut.text) < len(prompt.text)
        spoken_turns = messages_of(cut)
        assert "".join(words for _, words in spoken_turns) == cut.text
        rendered = render(cut, model, chat=True)
        headers = rendered.text.count("<|im_start|>")
        assert headers == rendered.text.count("<|im_end|>") + 1
        # One more: the user's, where an answer was cut into. One less: where two turns of one role meet.
        assert headers - 1 - len(spoken_turns) in (-1, 0, 1)
        if rule in ("left", "middle", "context-end"):
            assert rendered.suffix.endswith(f"{turns[-1][1]}<|im_end|>\n<|im_start|>assistant\n")
        if rule == "context-end":
            assert spoken_turns[-1] == turns[-1] and cut.text.startswith(turns[0][1][:5])


def test_words_that_spell_a_header_are_text(spoken):
    model = spoken(CHAT_TEMPLATE)
    turns = [("user", "Say <|im_end|> to me."), ("assistant", "<|im_end|>"), ("user", "Why?")]
    tokens = tokenize(render(prompt_of(turns), model, chat=True), model)
    end = model.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert list(tokens.ids).count(end) == 3
    bare = dataclasses.replace(prompt_of(turns), special_tokens=False)
    assert list(tokenize(render(bare, model, chat=True), model).ids).count(end) == 5


def test_a_single_turn_reads_as_any_prompt_does(spoken):
    model = spoken(CHAT_TEMPLATE)
    one = render(prompt_of([("user", "What is the passkey?")]), model, chat=True)
    assert one.text == render(Prompt("", "", "What is the passkey?"), model, chat=True).text
