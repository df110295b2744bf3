"""How a model is spoken to is settled by its files: template, dates, thoughts, and what ends an answer."""

import pytest

from harness import UsageError
from harness.models import loading
from harness.testing.tiny import make_model, make_tokenizer

from ...helpers.loading import edit


def test_render_chat(tiny, tiny_folder):
    assert tiny.has_chat_template
    assert tiny.render_chat("Hi ") == "<|im_start|>user\nHi <|im_end|>\n<|im_start|>assistant\n"
    mute = loading.load(str(tiny_folder), device="cpu", chat="never")
    assert not mute.has_chat_template
    with pytest.raises(UsageError, match="no chat template"):
        mute.render_chat("Hi")


def test_a_model_without_template(tmp_path):
    model = loading.load(str(make_model(tmp_path, tokenizer=make_tokenizer(None))), device="cpu")
    assert not model.has_chat_template and model.chat == "never"


META = "{{ bos_token }}[INST] <<SYS>>\n\n<</SYS>>\n\n{{ messages[0]['content'] }} [/INST]"


def test_llama2_chat_models_get_the_official_wrapper_by_their_files(tmp_path):
    size = {"max_position_embeddings": 4096, "vocab_size": 32000}
    folder = make_model(tmp_path / "abc123", tokenizer=make_tokenizer(META), **size)
    assert loading.load(str(folder), device="cpu").render_chat(" Hi ") == "[INST] Hi [/INST]"
    assert not loading.load(str(folder), device="cpu", chat="never").has_chat_template
    edit(folder / "config.json", max_position_embeddings=16384)  # Code Llama's template is the same
    assert loading.load(str(folder), device="cpu").chat == "template"


@pytest.mark.parametrize("name", ["Llama2-Chinese-7b-Chat", "Llama-2-7b-chat-hf", "abc123"])
def test_a_folders_name_decides_nothing(tmp_path, name):
    own = "{{ bos_token }}Human: {{ messages[0]['content'] }}\nAssistant:"
    folder = make_model(tmp_path / name, tokenizer=make_tokenizer(own))
    assert loading.load(str(folder), device="cpu").render_chat("Hi") == "<s>Human: Hi\nAssistant:"


def test_templates_that_date_or_think_give_the_same_text_every_day(folder):
    template = (
        "{% if strftime_now is defined %}{% set day = strftime_now('%d %b %Y') %}{% endif %}"
        "{{ day }}|{{ strftime_now( \"%Y-%m-%d\" ) }}|{{ enable_thinking }}|{{ messages[0]['content'] }}"
    )
    (folder / "chat_template.jinja").write_text(template)
    rendered = loading.load(str(folder), device="cpu").render_chat("strftime_now('%Y')")
    assert rendered == "26 Jul 2024|2024-07-26|False|strftime_now('%Y')"


@pytest.mark.parametrize("date", ["'%d %b %Y'", "'%d %b %Y %H:%M:%S.%f'"])
def test_a_date_format_in_a_variable_gives_the_same_text_too(folder, date):
    template = "{% set form=" + date + " %}{{ strftime_now(form) }}|{{ messages[0]['content'] }}"
    (folder / "chat_template.jinja").write_text("\ufeff" + template)
    model = loading.load(str(folder), device="cpu")
    assert model.render_chat("Hi").startswith("26 Jul 2024") and model.render_chat("Hi").endswith("|Hi")
    assert model.facts()["reading"]["date_fixed"]


def test_a_template_that_opens_a_thought_has_it_closed(folder, tiny):
    template = tiny.tokenizer.chat_template + "{% if add_generation_prompt %}<think>\n{% endif %}"
    (folder / "chat_template.jinja").write_text(template)
    model = loading.load(str(folder), device="cpu")
    assert model.render_chat("Hi").endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert model.facts()["reading"]["thought_closed"] and not tiny.facts()["reading"]["thought_closed"]


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ raise_exception('A system message is required') }}", "A system message is required"),
        ("{% for m in messages %}{{ m['content']", "its chat template cannot be read"),
        ("{{ messages[0]['content'] + tools[0]['name'] }}", "its chat template cannot be read"),
        ("{{ messages[0]['content'] | nothing }}", "No filter named 'nothing'"),
    ],
)
def test_a_broken_template_is_one_line(folder, template, words):
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(UsageError) as caught:
        loading.load(str(folder), device="cpu").render_chat("Hi")
    assert words in str(caught.value) and "--chat never" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_several_templates_without_a_default_are_one_line(folder):
    (folder / "chat_template.jinja").unlink()
    named = [{"name": "rag", "template": "x"}, {"name": "tool_use", "template": "y"}]
    edit(folder / "tokenizer_config.json", chat_template=named)
    with pytest.raises(UsageError, match="its chat template cannot be read"):
        loading.load(str(folder), device="cpu").render_chat("Hi")


def test_what_the_template_writes_after_an_answer_ends_it(tmp_path):
    template = (
        "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|eot|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    )
    tokenizer = make_tokenizer(template)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|eot|>"]})
    folder = str(make_model(tmp_path, tokenizer=tokenizer))
    eot = tokenizer.convert_tokens_to_ids("<|eot|>")
    model = loading.load(folder, device="cpu")
    assert model.end_ids == (1, eot)
    assert model.facts()["reading"]["end_tokens"] == {"1": "</s>", str(eot): "<|eot|>"}
    assert loading.load(folder, device="cpu", chat="never").end_ids == (1,)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"eos_token_id": "1"}', "generation_config.json cannot be read: eos_token_id holds '1'"),
        ('{"eos_token_id": ', "generation_config.json cannot be read"),
        ("[1]", "generation_config.json cannot be read: it holds a list"),
    ],
)
def test_a_broken_generation_config_is_one_line(folder, text, words):
    (folder / "generation_config.json").write_text(text)
    with pytest.raises(UsageError, match=words):
        _ = loading.load(str(folder), device="cpu").end_ids
    (folder / "generation_config.json").write_text('\ufeff{"eos_token_id": 7}', encoding="utf-8")
    assert 7 in loading.load(str(folder), device="cpu").end_ids


def test_every_declared_end_token_counts(folder):
    assert loading.load(str(folder), device="cpu").end_ids == (1, 3), "</s>, and <|im_end|> from the template"
    edit(folder / "generation_config.json", eos_token_id=[1, 7])
    edit(folder / "config.json", eos_token_id=9)
    assert loading.load(str(folder), device="cpu").end_ids == (1, 3, 7, 9)
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}<|eot_id|>")
    assert loading.load(str(folder), device="cpu").end_ids == (1, 7, 9), "<|eot_id|> is not in the vocabulary"


def test_the_end_of_a_document_ends_an_answer(tmp_path):
    tokenizer = make_tokenizer(unk_token="<|endoftext|>")
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert loading.load(str(make_model(tmp_path, tokenizer=tokenizer)), device="cpu").end_ids == (1, 3, end)


def test_padding_is_the_pad_token_or_else_an_end_token(tmp_path, tiny):
    assert tiny.pad_id == 1
    padded = make_tokenizer(pad_token="<|im_start|>")
    assert loading.load(str(make_model(tmp_path, tokenizer=padded)), device="cpu").pad_id == 2


def test_a_pad_token_without_a_row_of_the_embedding_is_not_used(tmp_path):
    tokenizer = make_tokenizer()
    rows = len(tokenizer)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    model = loading.load(str(make_model(tmp_path, tokenizer=tokenizer, vocab_size=rows)), device="cpu")
    assert model.tokenizer.pad_token_id == rows and model.pad_id == 1
