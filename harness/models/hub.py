"""From the name of a model to a local folder with its configuration, tokenizer and safetensors.

Weights are only ever read as safetensors or GGUF: pickled ones can run code when they are opened, so they
are neither fetched nor loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .._util.files import inside, unwritable
from .._util.hashing import file_sha256
from .._util.network import hub_answers, hub_out_of_reach
from ..errors import UsageError
from . import gguf
from .reading import json_file, no_pointer, reading

Notify = Callable[[str], None]


_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_INDEX = "model.safetensors.index.json"
READ_WHOLE = (".json", ".jinja", ".model", ".txt")
"""Endings of the files of a model that are no weights."""
_HUB_FILES = [
    "config.json",
    "generation_config.json",
    "model*.safetensors",
    _INDEX,
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
]


@dataclass(frozen=True)
class Source:
    """A model found: its local `folder`, where it came from in words, and the Hub's commit if it has one."""

    folder: Path
    origin: str
    revision: str | None = None


def is_hub_id(name: str) -> bool:
    """Whether a name has the form ``org/name`` or ``org/name@revision``."""
    return _HUB_ID.fullmatch(name) is not None


def local_folder(folder: Path) -> Source:
    """A folder the user has."""
    check_folder(folder)
    return Source(folder.resolve(), "folder")


def gguf_file(path: Path, notify: Notify) -> Source:
    """A GGUF file the user has, converted into the cache."""
    if not path.is_file():
        raise UsageError(f"model {path}: no such file")
    sha256 = file_sha256(path)
    return Source(gguf.convert(path.resolve(), sha256, notify), f"gguf sha256:{sha256}")


def hub_repo(name: str, offline: bool, trust_remote_code: bool, notify: Notify) -> Source:
    """A model of the Hub, ``org/name`` or ``org/name@revision``, fetched into the Hub's own cache.

    Its configuration and list of files are looked at first, so that nothing large is fetched in vain. With
    the Hub out of reach, the newest state in its cache is used; the record names the revision either way.
    """
    from huggingface_hub import snapshot_download

    repo, _, tag = name.partition("@")
    revision: str | None = tag or None
    silence = ""
    if not offline and not hub_answers():
        offline, silence = True, hub_out_of_reach()
        notify(f"{silence}; looking for {name} in its cache")
    if not offline:
        try:
            revision = _look_at_hub(repo, revision, name)
            notify(f"fetching {name} from the Hub, unless it is in the Hub's cache")
        except UsageError:
            raise
        except Exception as error:  # the client's transport errors have no public base class of their own
            if refusal := _hub_refusal(name, error):
                raise refusal from error
            offline = True
            notify(f"the Hub cannot be reached ({type(error).__name__}); looking for {name} in its cache")
    patterns = [*_HUB_FILES, *(["*.py"] if trust_remote_code else [])]
    try:
        folder = Path(
            snapshot_download(repo, revision=revision, allow_patterns=patterns, local_files_only=offline)
        )
    except Exception as error:
        raise _hub_refusal(name, error) or UsageError(
            f"model {name!r} is not in the local cache and cannot be fetched from the Hub "
            f"({silence or type(error).__name__}); fetch it where there is a network, or give a local folder"
        ) from error
    check_folder(folder, name)
    return Source(folder, f"hub {repo}", folder.name)


def _look_at_hub(repo: str, revision: str | None, name: str) -> str | None:
    """Check a repository before fetching its weights; the commit that `revision` stands for now."""
    from huggingface_hub import HfApi, hf_hub_download

    info = HfApi().model_info(repo, revision=revision)
    check_files({file.rfilename for file in info.siblings or ()}, name)
    check_config(Path(hf_hub_download(repo, "config.json", revision=info.sha)), name)
    commit: str | None = info.sha
    return commit


def _hub_refusal(name: str, error: Exception) -> UsageError | None:
    """One line for an answer of the Hub, or of the disk, that trying again would not change; else None."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return UsageError(f"model {name!r} is gated: accept its licence on the Hub and run `hf auth login`")
    if isinstance(error, errors.RevisionNotFoundError):
        return UsageError(f"model {name!r}: the Hub has no such revision")
    if isinstance(error, errors.RepositoryNotFoundError):
        return UsageError(f"no model {name!r} on the Hub; if it is private, run `hf auth login`")
    if isinstance(error, errors.HFValidationError):
        return UsageError(f"{name!r} is neither a local folder nor a valid Hub id")
    if reason := unwritable(error):
        return UsageError(f"model {name!r}: the Hub's cache cannot be written ({reason})")
    return None


def check_folder(folder: Path, name: str | None = None) -> None:
    """Refuse, in one line, a folder whose model cannot be run; `name` is what the user called it."""
    label = name or str(folder)
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file() or (folder / "adapter.json").is_file():
            raise UsageError(
                f"model {label}: is an adapter, not a model; give the model it was trained on with --model (an "
                "adapter of the harness goes to --adapter, one of PEFT is merged into its model first)"
            )
        raise UsageError(f"model {label}: no config.json in {folder}")
    if (folder / "adapter_config.json").is_file():  # transformers would load it with the model, unasked
        raise UsageError(
            f"model {label}: holds an adapter beside the model (adapter_config.json); merge it into the weights, or "
            "move it out of the folder"
        )
    files = sorted(path for path in folder.iterdir() if path.is_file())
    for path in files:
        if path.suffix in READ_WHOLE:
            no_pointer(path, label)
        if path.name in ("added_tokens.json", "special_tokens_map.json"):
            json_file(path, label)
    check_config(folder / "config.json", label)
    check_files({path.name for path in files}, label)
    for path in weight_files(folder, label):
        if not path.is_file():
            raise UsageError(
                f"model {label}: incomplete, {_INDEX} lists {path.name}, which is not in {folder}"
            )
        no_pointer(path, label)


def check_files(names: set[str], label: str) -> None:
    """Refuse a list of files without safetensors weights."""
    if names & {"model.safetensors", _INDEX}:
        return
    pickled = sorted(n for n in names if n.endswith((".bin", ".pt", ".pth", ".ckpt")))
    if pickled:
        raise UsageError(
            f"model {label}: has only pickled weights ({pickled[0]}), which can run code when opened; "
            "save them as safetensors first"
        )
    raise UsageError(f"model {label}: has no weights (model.safetensors or {_INDEX})")


def check_config(path: Path, label: str) -> None:
    """Refuse a ``config.json`` of another family, or of quantised weights."""
    config = json_file(path, label)
    if not isinstance(family := config.get("model_type"), str):
        raise UsageError(f"model {label}: config.json is not a model configuration: it has no model_type")
    if family not in gguf.FAMILIES:
        raise UsageError(f"model {label}: is a {family}; supported families: {', '.join(gguf.FAMILIES)}")
    if config.get("quantization_config"):
        raise UsageError(
            f"model {label}: its weights are quantised; give the unquantised model, or a GGUF file, which is "
            "de-quantised"
        )


def weight_files(folder: Path, label: str | None = None) -> list[Path]:
    """The safetensors files a checked folder's weights are read from. Raises UsageError for a broken index."""
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    name = label or str(folder)
    index = json_file(folder / _INDEX, name)
    with reading(name, _INDEX):
        shards = sorted({str(shard) for shard in index["weight_map"].values()})
        for shard in shards:
            if not inside(shard):
                raise ValueError(f"weight_map names {shard}, which is not a file of the folder")
    return [folder / shard for shard in shards]
