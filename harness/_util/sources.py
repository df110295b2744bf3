"""Which code a loose Python file stands for: its own text, and that of the files beside it that it imports."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

OURS = ("harness",)
"""Packages whose version the run states anyway."""


def source_hash(path: Path) -> str:
    """SHA-256 (hex) of a Python file; of one that imports others from its own folder, of all of them.

    Imports are read from the text, so that those inside functions count, and what other files have imported
    already does not.
    """
    root = path.resolve().parent
    found: dict[Path, bytes] = {}
    waiting = [path.resolve()]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found[file] = file.read_bytes()
            waiting += _imported(found[file], file, root)
    first = found.pop(path.resolve())
    if not found:
        return hashlib.sha256(first).hexdigest()
    whole = hashlib.sha256(first)
    for file in sorted(found):
        name = file.relative_to(root).as_posix()
        whole.update(f"\0{name}\0{hashlib.sha256(found[file]).hexdigest()}".encode())
    return whole.hexdigest()


def _imported(text: bytes, file: Path, root: Path) -> Iterator[Path]:
    """Files below `root` that `text`, which stands in `file`, may import."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return  # whoever imports it is told
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(root, root, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            start = root if node.level == 0 else file.parents[node.level - 1]
            head = node.module.split(".") if node.module else []
            for alias in node.names:
                yield from _files(root, start, [*head, alias.name])


def _files(root: Path, start: Path, parts: list[str]) -> Iterator[Path]:
    """The files of a module and of the packages it is in, as far as they lie below `root`."""
    if not start.is_relative_to(root) or (start == root and parts[0] in OURS):
        return
    for count in range(len(parts) + 1):
        folder = start.joinpath(*parts[:count])
        for file in (folder.with_name(f"{folder.name}.py"), folder / "__init__.py"):
            if folder != root and file.is_file():
                yield file.resolve()
