"""Text from data, models and plugins, made harmless before a terminal sees it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

# Controls (C0 but tab and newline, DEL, C1), the marks and overrides that reorder text (bidi), separators
# that some terminals break lines at, characters of no width, and halves of characters, which no stream can encode.
_ACTIVE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028\u2029\u202a-\u202e\u2060\u2066-\u2069\ufeff\ud800-\udfff]"
)


def visible(text: str) -> str:
    r"""`text` with every character that could steer a terminal written out: ESC becomes ``\x1b``.

    Colours, cursor movements, titles, links and clipboard writes (ANSI and OSC sequences) all begin with a
    control character; so do a carriage return that hides a line, and marks that show text in another order
    than it has. Tabs and newlines stay.
    """
    return _ACTIVE.sub(_written_out, text)


def _written_out(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


@dataclass(frozen=True)
class Visible:
    """Anything Rich can render, with the text in it made `visible`; Rich's own styles stay."""

    renderable: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Segment]:
        for segment in console.render(self.renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)
