"""What libraries would print on their own, kept off the terminal."""

from __future__ import annotations

import logging
import os
import sys
import warnings

ASKED_BEFORE = {
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "DATASETS_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}
"""What the libraries read when they are imported; whoever set one of these is heard."""


def hush_libraries() -> None:
    """Silence the libraries' bars, logs and warnings: what the user must know is said by the harness.

    Imports nothing: a library that is there already is told, the others find it in the environment. Nothing is
    changed under HARNESS_DEBUG=1.
    """
    if os.environ.get("HARNESS_DEBUG") == "1":
        return
    for name, value in ASKED_BEFORE.items():
        os.environ.setdefault(name, value)
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    if transformers := sys.modules.get("transformers"):
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
    if datasets := sys.modules.get("datasets"):
        datasets.logging.set_verbosity_error()
        datasets.disable_progress_bars()
    if hub := sys.modules.get("huggingface_hub.utils"):
        hub.logging.set_verbosity_error()
        hub.disable_progress_bars()


def hush_warnings() -> None:
    """Leave Python's warnings out, for a process that is a command: they are for who writes the code.

    Not if somebody asked for them (``python -W``), nor under HARNESS_DEBUG=1.
    """
    if not (sys.warnoptions or os.environ.get("HARNESS_DEBUG") == "1"):
        warnings.simplefilter("ignore")
