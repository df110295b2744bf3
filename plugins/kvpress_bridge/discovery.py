"""Which presses are installed here, and which cannot be run."""

from __future__ import annotations

import importlib.util
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from harness import UsageError
from harness.errors import NotInstalled
from harness.models import attention as harness_attention

PACKAGE = "kvpress"
PIP = "pip install 'long-context-harness[kvpress]'"


REFUSED = {
    "RestoreKVPress": "it adds trained adapters to the model",
}
HIDES = {"AdaKVPress", "CriticalAdaKVPress", "DMSPress", "DuoAttentionPress", "LUKVPress"}
"""Presses that read the text once and hide entries instead of dropping them."""
ABSTRACT = ("BasePress", "ScorerPress")


def installed(name: str) -> Any:
    """The kvpress package. Raises NotInstalled if it is not there, UsageError if not with this transformers."""
    from importlib import metadata

    if importlib.util.find_spec(PACKAGE) is None:
        raise NotInstalled(f"kvpress:{name} needs kvpress: {PIP}")
    from transformers.utils.versions import require_version

    for wanted in metadata.requires(PACKAGE) or ():
        if re.match(r"transformers\b", wanted):
            try:
                require_version(wanted)
            except ImportError as error:
                raise UsageError(
                    f"kvpress {version()} works with {wanted}, not {metadata.version('transformers')}; "
                    f"in an environment of its own: {PIP}"
                ) from error
    try:
        import kvpress
    except Exception as error:
        raise UsageError(
            f"kvpress {version()} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    # kvpress wraps every attention function there is; what the other methods attend by stays as it was.
    ALL_ATTENTION_FUNCTIONS[harness_attention.ATTENTION] = harness_attention.attend
    logging.getLogger(PACKAGE).setLevel(logging.ERROR)
    return kvpress


@contextmanager
def without_template() -> Iterator[None]:
    """In the block presses that load a tokenizer by themselves get one without a chat template.

    KVzip and KVgrad take as many first tokens as the template has for the template's and evict them; where a prompt was
    written without it they would be the text's.
    """
    from transformers import AutoTokenizer

    class Bare:
        @staticmethod
        def from_pretrained(*args: Any, **kwargs: Any) -> Any:
            tokenizer = AutoTokenizer.from_pretrained(*args, **kwargs)
            tokenizer.chat_template = None
            return tokenizer

    holders = [
        module
        for name, module in list(sys.modules.items())
        if name.startswith(f"{PACKAGE}.presses") and getattr(module, "AutoTokenizer", None) is AutoTokenizer
    ]
    for module in holders:
        vars(module)["AutoTokenizer"] = Bare
    try:
        yield
    finally:
        for module in holders:
            vars(module)["AutoTokenizer"] = AutoTokenizer


def version() -> str:
    """The version of the installed kvpress."""
    from importlib import metadata

    return metadata.version(PACKAGE)
