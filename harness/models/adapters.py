"""Adapter folders: what a method learned, as safetensors and JSON, tied to the model it was learned on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._util import artifacts
from .._util.files import inside, write_whole, writes
from .._util.hashing import digest
from ..errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from .model import LanguageModel

FORMAT = 2
CARD = "adapter.json"
NO_ADAPTER = "none"
"""What ``--adapter`` says to go without one (a folder of that name is ``./none``)."""


def write(
    folder: Path,
    method: str,
    model: LanguageModel,
    tensors: Mapping[str, Mapping[str, Tensor]],
    facts: dict[str, Any],
    texts: Mapping[str, str] | None = None,
) -> None:
    """Write an adapter folder; the card goes last, so that a folder with a card is complete.

    Parameters
    ----------
    tensors
        For each safetensors file, by its path in the folder, the tensors by name; on any device.
    facts
        JSON-ready: options, steps, loss, data. Kept in the card beside the base model and its hash.
    texts
        More files, by their paths in the folder.

    Raises
    ------
    UsageError
        If the folder cannot be written.
    """
    from safetensors.torch import save_file

    with writes(folder):
        (folder / CARD).unlink(missing_ok=True)
        for name, content in tensors.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            save_file({k: t.detach().cpu().contiguous() for k, t in content.items()}, folder / name)
        for name, text in (texts or {}).items():
            write_whole(folder / name, text)
        card = {
            "format": FORMAT,
            "method": method,
            "base_model": model.name,
            "base_hash": model.content_hash,
            "token_hash": model.token_hash,
            "files": {name: digest(folder / name) for name in sorted({*tensors, *(texts or {})})},
            **facts,
        }
        write_whole(folder / CARD, json.dumps(card, indent=2, ensure_ascii=False) + "\n")


def loss_of(saved: str) -> str:
    """Which weights a card's loss was measured on, for the card: training's own, whatever type is `saved`."""
    rounded = "" if saved == "float32" else f", before they were rounded to {saved} for the file"
    return f"the float32 weights in training{rounded}"


def copy(source: Path, folder: Path) -> None:
    """Copy an adapter, and nothing that may lie beside it (checkpoints); its card goes last.

    Raises
    ------
    UsageError
        If `source` is no adapter, or `folder` cannot be written.
    """
    names = [*read_card(source).get("files", ()), CARD]
    with writes(folder):
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, folder / name)


def read_card(folder: Path) -> dict[str, Any]:
    """The card of an adapter folder. Raises UsageError if the folder is not one, or not complete."""
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"--adapter {folder}: no {CARD} there; is it a folder written by a fit?") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"--adapter {folder}: {CARD} cannot be read: {error}") from None
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise UsageError(
            f"--adapter {folder}: {CARD} is not of format {FORMAT}; fit it again with this version"
        )
    files = card.get("files", {})
    if not isinstance(files, dict) or not all(inside(name) for name in files):
        raise UsageError(f"--adapter {folder}: {CARD} does not list files of that folder")
    return card


def check(folder: Path, methods: tuple[str, ...], model: LanguageModel) -> dict[str, Any]:
    """The card, if one of `methods` can use the adapter on this model; needs none of the model's weights.

    Raises
    ------
    UsageError
        One line for whichever does not hold: method, model, or a file that is not as it was written.
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
    told = card.get("token_hash")  # of an adapter of an earlier version nothing is known
    if told is not None and told != model.token_hash:
        raise UsageError(
            f"--adapter {folder}: trained with another tokenizer than that of {model.name}, whose "
            "weights are the same; restore its files, or fit again"
        )
    check_files(folder, card)
    return card


def check_files(folder: Path, card: Mapping[str, Any]) -> None:
    """Raise UsageError for a file that the card lists and that is not as it was written."""
    files = card.get("files")
    if not isinstance(files, dict) or not files:
        raise UsageError(f"--adapter {folder}: {CARD} lists no files")
    for name, written in files.items():
        try:
            if digest(folder / name) != written:
                raise UsageError(f"--adapter {folder}: {name} is damaged: its hash is not the one in {CARD}")
            if name.endswith(".safetensors"):
                _check_tensors(folder / name)
        except OSError as error:
            raise UsageError(f"--adapter {folder}: {name} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise UsageError(f"--adapter {folder}: {name} cannot be read: {error}") from None


def _check_tensors(path: Path) -> None:
    """Read the head of a safetensors file, which says what is in it. Raises ValueError if it is none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            file.keys()
    except SafetensorError as error:
        raise ValueError(error) from None


def read(folder: Path, name: str) -> dict[str, Tensor]:
    """The tensors of one file of an adapter that `check` has passed.

    Raises
    ------
    UsageError
        If it cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if name not in read_card(folder).get("files", {}):  # then nobody has held it to its hash
        raise UsageError(f"--adapter {folder}: {CARD} does not list {name}")
    try:
        tensors: dict[str, Tensor] = load_file(folder / name)
        return tensors
    except (OSError, SafetensorError) as error:
        raise UsageError(f"--adapter {folder}: {name} cannot be read: {error}") from None


def fingerprint(folder: Path) -> str:
    """Hash over what an adapter is: the digests of its files, and its card. `check` holds the one to the other."""
    read_card(folder)
    return digest(folder / CARD)


def resolve(asked: Path | None, default: Callable[[], Path | None]) -> Path | None:
    """The adapter meant by ``--adapter``: none given, the `default`; ``none``, no adapter at all."""
    if asked is None:
        return default()
    return None if str(asked) == NO_ADAPTER else asked


def shipped(methods: tuple[str, ...], model: LanguageModel) -> Path | None:
    """The adapter that an installed package ships for this very model and one of `methods`, in that order.

    Packages put them under ``adapters/<model>/<name>/`` of a folder they name by a ``harness._util.artifacts`` entry
    point. An adapter of other weights than the model's is passed over in silence: it is meant for another.
    """
    found: dict[str, Path] = {}
    for root in artifacts.folders():
        for path in sorted(root.glob(f"adapters/*/*/{CARD}")):
            card = read_card(path.parent)
            if card.get("base_hash") == model.content_hash:
                found.setdefault(str(card.get("method")), path.parent)
    return next((found[m] for m in methods if m in found), None)
