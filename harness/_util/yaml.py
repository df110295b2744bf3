"""YAML from anybody: plain values only, each key once, and nothing that grows when it is read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError

if TYPE_CHECKING:
    from yaml.nodes import Node

LARGEST = 2**20
"""Bytes of a file."""
MOST = 100_000
"""Values in a file, anchors and merges spelled out."""
DEEPEST = 30
"""Levels of lists and mappings."""


def read_yaml(path: Path) -> Any:
    """The content of a YAML file that a person wrote: mappings with texts for keys, lists, texts, numbers.

    Raises
    ------
    UsageError
        One line with the file, and the line where there is one: it cannot be read, is no YAML or too large, a key
        is there twice, an anchor holds itself, or a value is of a type that JSON has not.
    """
    import yaml

    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise UsageError(f"{path}: larger than {LARGEST // 2**20} MiB: no file that a person wrote")
        text = data.decode()
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            _measure(node, path, {}, 1)
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    except RecursionError:
        raise UsageError(f"{path}: nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:  # a date without such a day, a number of too many digits
        raise UsageError(f"{path}: no YAML: {' '.join(str(error).split())}") from None
    _check(content, path, "")
    return content


def _measure(node: Node, path: Path, sizes: dict[int, int | None], depth: int) -> int:
    """How many values a node stands for. Raises UsageError where that is too many, or a key is there twice."""
    import yaml

    known = sizes.get(id(node), 0)
    if known is None:
        raise UsageError(f"{_place(path, node)}: an anchor holds itself")
    if known:
        return known
    if depth > DEEPEST:
        raise UsageError(f"{_place(path, node)}: nested too deeply")
    sizes[id(node)] = None
    children: list[Node] = []
    if isinstance(node, yaml.MappingNode):
        _once([key for key, _ in node.value], path)
        children = [each for pair in node.value for each in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    size = 1 + sum(_measure(child, path, sizes, depth + 1) for child in children)
    if size > MOST:
        raise UsageError(f"{_place(path, node)}: more than {MOST:,} values once its anchors are spelled out")
    sizes[id(node)] = size
    return size


def _once(keys: list[Node], path: Path) -> None:
    seen = set()
    for key in keys:
        if not isinstance(key.value, str):  # a list or mapping: no key that anybody could mean
            raise UsageError(f"{_place(path, key)}: a key must be text; put it in quotes")
        if key.value in seen:
            raise UsageError(f"{_place(path, key)}: the key {key.value!r} is there twice")
        seen.add(key.value)


def _place(path: Path, node: Node) -> str:
    return f"{path} line {node.start_mark.line + 1}"


def _check(value: Any, path: Path, where: str) -> None:
    """Raise UsageError unless `value` is made of what every part of the harness can take."""
    if isinstance(value, dict):
        for key, inner in value.items():
            inside = f"{where}.{key}" if where else str(key)
            if not isinstance(key, str):
                raise UsageError(f"{path}: {inside}: a key must be text; put it in quotes")
            _check(key, path, inside)
            _check(inner, path, inside)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _check(inner, path, f"{where}.{number}" if where else str(number))
    elif isinstance(value, str):
        if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
            raise UsageError(f"{path}: {where}: a character that no file name and no text may have")
    elif isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{path}: {where}: {value} is no number to go by")
    elif isinstance(value, int) and value.bit_length() > 64:
        raise UsageError(f"{path}: {where}: a number of more than 64 bits")
    elif value is not None and not isinstance(value, bool | int | float):
        raise UsageError(f"{path}: {where}: a {type(value).__name__} is not taken; put it in quotes")
