"""The frame in which ``harness view`` shows its page: how far the runs are, and the report, anew as they go on."""

from __future__ import annotations

from ._text import visible
from .page import TEMPLATES, environment, policy


def frame(title: str) -> str:
    """The frame; it asks its own server for ``state`` and ``report`` and nobody else for anything."""
    style, script = ((TEMPLATES / f"view.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    allowed = f"{policy(style, script)}; connect-src 'self'; frame-src 'self'"
    made = environment().get_template("view.html.j2")
    return made.render(title=visible(title, one_line=True), policy=allowed, style=style, script=script)
