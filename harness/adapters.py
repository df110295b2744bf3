"""Adapter folders: what a method learned, as safetensors and JSON, tied to the model it was learned on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from .models import LanguageModel

FORMAT = 1
CARD = "adapter.json"
WEIGHTS = "weights.safetensors"


def write(
    folder: Path, method: str, model: LanguageModel, tensors: Mapping[str, Tensor], facts: dict[str, Any]
) -> None:
    """Write an adapter folder; the card goes last, so that a folder with a card is complete.

    Parameters
    ----------
    tensors
        By name; on any device.
    facts
        JSON-ready: options, steps, loss, data. Kept in the card beside the base model and its hash.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / WEIGHTS
    save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, weights)
    card = {
        "format": FORMAT,
        "method": method,
        "base_model": model.name,
        "base_hash": model.content_hash,
        "weights_sha256": _digest(weights),
        **facts,
    }
    (folder / CARD).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_card(folder: Path) -> dict[str, Any]:
    """The card of an adapter folder. Raises UsageError if the folder is not one, or not complete."""
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"--adapter {folder}: no {CARD} there; is it a folder written by a fit?") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"--adapter {folder}: {CARD} cannot be read: {error}") from None
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise UsageError(
            f"--adapter {folder}: {CARD} is not of format {FORMAT}; fit it again with this version"
        )
    return card


def check(folder: Path, methods: tuple[str, ...], model: LanguageModel) -> dict[str, Any]:
    """The card, if one of `methods` can use the adapter on this model; needs none of the model's weights.

    Raises
    ------
    UsageError
        One line for whichever does not hold.
    """
    card = read_card(folder)
    if card.get("method") not in methods:
        raise UsageError(
            f"--adapter {folder}: made for method {card.get('method')!r}, not for {' or '.join(methods)}"
        )
    if card.get("base_hash") != model.content_hash:
        raise UsageError(
            f"--adapter {folder}: trained on {card.get('base_model')} ({str(card.get('base_hash'))[:12]}), "
            f"not on {model.name} ({model.content_hash[:12]})"
        )
    weights = folder / WEIGHTS
    try:
        if _digest(weights) != card.get("weights_sha256"):
            raise UsageError(f"--adapter {folder}: {WEIGHTS} is damaged: its hash is not the one in {CARD}")
    except OSError as error:
        raise UsageError(f"--adapter {folder}: {WEIGHTS} cannot be read: {error.strerror}") from None
    return card


def read(
    folder: Path, methods: tuple[str, ...], model: LanguageModel
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Card and tensors of an adapter, checked as `check` does.

    Raises
    ------
    UsageError
        One line for whichever does not hold.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    card = check(folder, methods, model)
    weights = folder / WEIGHTS
    try:
        return card, load_file(weights)
    except (OSError, SafetensorError) as error:
        raise UsageError(f"--adapter {folder}: {WEIGHTS} cannot be read: {error}") from None


def fingerprint(folder: Path) -> str:
    """Hash over name and content of every file of an adapter folder: any of them may change an answer."""
    if not folder.is_dir():
        raise UsageError(f"--adapter {folder}: no such folder")
    files = {str(p.relative_to(folder)): _digest(p) for p in sorted(folder.rglob("*")) if p.is_file()}
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
