"""Text that a model or a file wrote, made harmless to look at."""

from __future__ import annotations

import re

_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]"
)
"""Controls other than tab and line feed, halves of characters, and what hides, reorders or imitates others."""


def visible(text: str, *, one_line: bool = False) -> str:
    """`text` with every control made visible: an escape as ``␛``, a right-to-left override as ``<U+202E>``.

    Nothing is left that a terminal would obey or that would show words in another order. With `one_line`
    tabs and line ends become visible too.
    """
    found = _UNSEEN.sub(_picture, text)
    return found.replace("\n", "⏎").replace("\t", "⇥") if one_line else found


def _picture(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"<U+{code:04X}>"
