"""The ids of a model's texts are those of its ``tokenizer.json``, whatever class transformers makes of it."""

import json

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from harness import UsageError
from harness.models import loading, tokenizer_file
from harness.testing.tiny import make_model

from ...helpers.loading import edit

TEXT = "The grass is green.\n\nThe ｐａｓｓｋｅｙ is 12345. Remember it."


def metaspace(normalizer=None):
    """A tokenizer in the manner of SentencePiece."""
    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizer
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=True)
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=special, show_progress=False)
    made.train_from_iterator([TEXT, "the passkey and the grass are green"] * 3, trainer)
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize("normalizer", [None, normalizers.NFKC(), normalizers.Lowercase()])
@pytest.mark.parametrize("cls", ["PreTrainedTokenizerFast", "LlamaTokenizerFast", "Qwen2Tokenizer"])
def test_text_is_read_as_it_was_saved(tmp_path, family, normalizer, cls):
    folder = make_model(tmp_path, family, tokenizer=metaspace(normalizer))
    edit(folder / "tokenizer_config.json", tokenizer_class=cls)
    saved = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer = loading.load(str(folder), device="cpu").tokenizer
    ids = saved.encode(TEXT).ids
    assert tokenizer(TEXT)["input_ids"] == ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == saved.decode(ids, skip_special_tokens=True)


def test_a_tokenizer_that_insists_is_refused(folder, monkeypatch):
    monkeypatch.setattr(tokenizer_file, "_equal", lambda *_: False)
    with pytest.raises(UsageError, match=r"tokenizer\.json is not read as it was saved"):
        _ = loading.load(str(folder), device="cpu").tokenizer


WORD = "orchard"
"""A word that neither the probe nor a prompt of the tests holds."""


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("added_tokens.json", {WORD: 5}),
        ("special_tokens_map.json", {"eos_token": WORD}),
        ("tokenizer_config.json", {"extra_special_tokens": [WORD]}),
        ("tokenizer_config.json", {"pad_token": WORD}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"9": {"content": WORD, "special": False}}}),
    ],
    ids=["added", "map", "extra", "pad", "decoder"],
)
def test_a_word_that_another_file_makes_a_token_is_named(folder, file, content):
    if not (folder / file).is_file():
        (folder / file).write_text("{}")
    edit(folder / file, **content)
    saved = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert len(saved.encode(WORD).ids) > 2, "by the file it is several"
    with pytest.raises(UsageError, match=f"makes '{WORD}' a token of its own, as another file"):
        _ = loading.load(str(folder), device="cpu").tokenizer


def test_a_control_token_of_another_file_is_no_word(folder):
    edit(folder / "tokenizer_config.json", pad_token="[PAD]")
    assert loading.load(str(folder), device="cpu").tokenizer.pad_token == "[PAD]"


@pytest.mark.parametrize("rate", [0.1, 1e-6])
def test_a_tokenizer_that_reads_at_random_is_refused(folder, rate):
    rules = json.loads((folder / "tokenizer.json").read_text())
    rules["model"]["dropout"] = rate
    (folder / "tokenizer.json").write_text(json.dumps(rules))
    with pytest.raises(UsageError, match=r"reads every text at random .* set dropout to null"):
        _ = loading.load(str(folder), device="cpu").tokenizer
