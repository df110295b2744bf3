"""Tables on a terminal: the same look for every verb."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from ..documents.document import Answer
from ..documents.tables import Table
from ._grid import Layout, drawn, layouts, wrapped
from ._text import visible

TOLD = {"better": "green", "worse": "red"}


def table(made: Table, width: int, leave_out: Sequence[str] = (), *, compact: bool = False) -> RenderableType:
    """The title, the table in as many pieces as `width` asks for, and its notes but those to leave out.

    With `compact` it is set in the least room (see `harness.render._grid.layouts`), and has no notes.
    """
    title = visible(made.title, one_line=True)
    parts: list[RenderableType] = [Text(title, style="bold")] * bool(title)
    for number, layout in enumerate(layouts(made, width, compact=compact)):
        parts += [Text()] * bool(number) + drawn(layout, width)
    if not compact:
        parts += notes([note for note in made.notes() if note not in leave_out], width)
    return Group(*parts, Text())


def fits(made: Table, width: int) -> bool:
    """Whether all columns have room beside each other, names in one line and intervals behind their values."""
    return Layout(made, made.ungrouped).fits(width, unwrapped=True)


def answers(found: Sequence[Answer], width: int) -> list[RenderableType]:
    """What was found, each subject with its sentences below."""
    parts: list[RenderableType] = []
    for answer in found:
        parts.append(Text(visible(answer.subject, one_line=True), style="bold"))
        for told, sentence in answer.lines:
            words = visible(sentence, one_line=True)
            for i, line in enumerate(wrapped(words, max(20, width - 4))):
                text = Text("  " if i == 0 else "    ")
                text.append(line)
                if i == 0 and told in TOLD:
                    text.highlight_words([f"is {told} than"], TOLD[told])
                parts.append(text)
    return parts


def notes(lines: Sequence[str], width: int) -> list[Text]:
    """What stands below tables."""
    return [
        Text(part, style="dim")
        for line in lines
        for part in wrapped(visible(line, one_line=True), max(20, width))
    ]
