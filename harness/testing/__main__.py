"""``python -m harness.testing FOLDER``: save a tiny random model there, for tests in other repositories."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .tiny import WINDOW, make_model


def main(words: Sequence[str]) -> int:
    """Make the model that the words of a command line ask for."""
    parser = argparse.ArgumentParser(prog="python -m harness.testing", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--window", type=int, default=WINDOW, help=f"tokens it reads (default {WINDOW})")
    parser.add_argument("--family", default="llama", help="llama, mistral, qwen2 or qwen3 (default llama)")
    given = parser.parse_args(words)
    make_model(given.folder, given.family, max_position_embeddings=given.window)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
