"""The README as an index of packages can show it: ``python -m tools.package_page`` writes PACKAGE.md.

There no file lies beside it, so that links into the repository become their words, and pictures are left out.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "PACKAGE.md"
LAST = "The documentation, with a page for each method and task, is in the folder `docs` of the source distribution.\n"


def package_text(readme: str) -> str:
    """The text without comments, pictures, and links to files."""
    text = re.sub(r"^<!--.*?-->\n", "", readme, flags=re.MULTILINE)
    text = re.sub(r"^!\[.*?\]\(.*?\)\n+", "", text, flags=re.MULTILINE)
    text = re.sub(r"\[([^\]]+)\]\((?!https?://)[^)]*\)", r"\1", text)
    return re.sub(r"\n{3,}", "\n\n", text).rstrip("\n") + "\n\n" + LAST


def main() -> None:
    """Write it."""
    TARGET.write_text(package_text((ROOT / "README.md").read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{TARGET}\n")


if __name__ == "__main__":
    main()
