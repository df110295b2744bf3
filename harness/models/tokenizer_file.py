"""The tokenizer that was saved: what ``tokenizer.json`` says, whatever class transformers would build for it.

Transformers 5 takes vocabulary and merges from the file and rebuilds the rest (normalizer, pre-tokenizer, decoder)
by the class that goes with the model's family. Where that is not what the file says, the file is used as it is.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .reading import json_file, reading

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

FILE = "tokenizer.json"
PARTS = ("normalizer", "pre_tokenizer", "decoder", "model")

PROBE = (
    " The grass is green.\n\nDon't they'LL say 1234567.89 + x_y == 'naïve café'? \t e\u0301 ﬁ ½ İstanbul "
    "ｐａｓｓｋｅｙ 北京大学、日本語のテキスト。한국어 русский العربية हिन्दी \U0001f642\r\n   def f(a):\n"
    "\treturn a[3]  # http://x.org/?q=1&r=\u200b\u00a0done  "
)
"""Blanks at both ends and in rows, contractions, digits, letters that normalise, scripts, controls."""


def load(folder: Path, name: str, trust_remote_code: bool) -> PreTrainedTokenizerFast:
    """The fast tokenizer of a model's folder, which reads text as its ``tokenizer.json`` does.

    Special tokens around a text are those of the file too, unless ``tokenizer_config.json`` says itself whether they
    are added. A folder without the file, or one whose own code makes the tokenizer, has nothing to be held to.

    Raises
    ------
    UsageError
        If no way of loading it gives the ids of the file.
    """
    from tokenizers import Tokenizer

    saved, what = None, "its tokenizer"
    if (folder / FILE).is_file():
        hint = f" (tokenizers {version('tokenizers')} is installed; another version may have written it)"
        with reading(name, FILE, hint):
            saved = Tokenizer.from_file(str(folder / FILE))
        _refuse_chance(saved, name)
        what = "tokenizer_config.json, or what it goes with,"
    with reading(name, what):
        return _as_saved(folder, name, trust_remote_code, saved)


def _as_saved(folder: Path, name: str, trust_remote_code: bool, saved: Any) -> PreTrainedTokenizerFast:
    """The tokenizer by whichever class reads text as `saved` does, if there is one to be held to."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    ends = not _says_what_is_added(folder, name)
    asked: dict[str, Any] = {"local_files_only": True}
    tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(
        folder, trust_remote_code=trust_remote_code, **asked
    )
    own_code = type(tokenizer).__module__.startswith("transformers_modules")
    if not tokenizer.is_fast or own_code or saved is None:
        return tokenizer
    if _meaning(tokenizer.backend_tokenizer) != _meaning(saved) or not _equal(tokenizer, saved, ends):
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, **asked)
    if not _equal(tokenizer, saved, ends):
        what, remedy = "gives other tokens", "save the tokenizer anew with a current transformers"
        if words := _own_words(tokenizer, saved):
            what = f"makes {words[0]!r} a token of its own, as another file of the folder says"
            remedy = "take it out there, or save the tokenizer anew"
        raise UsageError(
            f"model {name}: its {FILE} is not read as it was saved: {type(tokenizer).__name__} {what}; {remedy}"
        )
    return tokenizer


def _refuse_chance(saved: Any, name: str) -> None:
    """Raise UsageError for a tokenizer that leaves out merges at random, as in training: no text has one reading."""
    if rate := json.loads(saved.to_str())["model"].get("dropout"):
        raise UsageError(
            f"model {name}: its {FILE} reads every text at random (its model has a dropout of {rate}); set dropout to "
            "null there"
        )


def _own_words(tokenizer: Any, saved: Any) -> list[str]:
    """Words that other files than the saved one make tokens of their own, wherever a text has them.

    Control tokens are no words: where a document spells one it is read as text.
    """
    known = {token.content for token in saved.get_added_tokens_decoder().values()}
    found = tokenizer.added_tokens_decoder.values()
    return [t.content for t in found if t.content not in known and (not t.special or t.content.isalnum())]


def _says_what_is_added(folder: Path, name: str) -> bool:
    """Whether the tokenizer's configuration overrides the special tokens that the file puts around a text."""
    file = folder / "tokenizer_config.json"
    config = json_file(file, name) if file.is_file() else {}
    return any(config.get(key) is not None for key in ("add_bos_token", "add_eos_token"))


def _meaning(backend: Any) -> list[Any]:
    """The rules of a tokenizer by which text becomes tokens; vocabularies are compared by the probe."""
    rules = json.loads(backend.to_str())
    rules["model"] = {k: v for k, v in rules["model"].items() if k not in ("vocab", "merges")}
    return [_plain(rules[part]) for part in PARTS]


def _plain(rule: Any) -> Any:
    """A rule without what is the default, or changes no token."""
    if isinstance(rule, list):
        return [_plain(each) for each in rule]
    if not isinstance(rule, dict):
        return rule
    kept = {k: _plain(v) for k, v in rule.items() if k != "trim_offsets"}
    return {k: v for k, v in kept.items() if v is not None and v != "" and v is not False}


def _equal(tokenizer: Any, saved: Any, ends: bool) -> bool:
    """Whether the probe becomes the same ids, and they the same text; `ends`: with special tokens around it too."""
    saved.no_truncation()
    saved.no_padding()
    probe = PROBE + "".join(f" {word} x{word}y" for word in _own_words(tokenizer, saved))
    for special in (False, True) if ends else (False,):
        ids = saved.encode(probe, add_special_tokens=special).ids
        if list(tokenizer(probe, add_special_tokens=special)["input_ids"]) != ids:
            return False
    read = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return bool(read == saved.decode(ids, skip_special_tokens=True))


def around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Special tokens that the tokenizer puts before and after a text."""
    bare = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    whole = list(tokenizer("a", add_special_tokens=True)["input_ids"])
    places = range(len(whole) - len(bare) + 1)
    start = next((i for i in places if whole[i : i + len(bare)] == bare), 0)
    return whole[:start], whole[start + len(bare) :]
