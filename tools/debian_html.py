"""HTML pages of documentation as clean text: without navigation, with pre-formatted blocks as they stand."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

_BLOCKS = frozenset(
    "address article aside blockquote body caption dd details div dl dt fieldset figcaption figure h1 h2 h3 h4 h5 "
    "h6 hr li main ol p pre section table tr ul".split()
)
_VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())
_SKIPPED = frozenset("head script style nav footer form button svg template noscript select".split())
_SKIPPED_CLASSES = frozenset(
    "navheader navfooter sphinxsidebar related menu submenu mainmenu searchmenu mobile-nav toc docnav headerlink "
    "fancy_toc tagline breadcrumb footer menu-bar nav-wrapper nav-wide-wrapper sidebar-scrollbox inline-search "
    "contents list-of-tables list-of-figures list-of-examples linenos copyright legalnotice revhistory "
    "navparent viewcode-link pilcrow nosearch authorgroup edition releaseinfo fancy_title_link".split()
)
_SKIPPED_IDS = frozenset(
    "banner footer menu-bar sidebar search-wrapper searchmenu toc toc_sub contents table-of-contents".split()
)


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[str] = []
        self._line: list[str] = []
        self._skipping = ("", 0)  # the element that is left out, and how many of its name are open
        self._pre = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        name, depth = self._skipping
        if depth:
            self._skipping = (name, depth + (tag == name))
            return
        if tag not in _VOID and _left_out(tag, dict(attrs)):
            self._skipping = (tag, 1)
        elif tag == "br":
            self._line.append("\n" if self._pre else " ")
        elif tag in ("td", "th") and "".join(self._line).strip():
            self._line.append("  ")
        elif tag in _BLOCKS:
            self._end_block()
            self._pre += tag == "pre"
            if tag == "li":
                self._line.append("- ")

    def handle_endtag(self, tag: str) -> None:
        name, depth = self._skipping
        if depth:
            self._skipping = (name, depth - (tag == name))
        elif tag in _BLOCKS:
            self._end_block()
            if tag == "pre":
                self._pre = max(0, self._pre - 1)

    def handle_data(self, data: str) -> None:
        if not self._skipping[1]:
            self._line.append(data)

    def close(self) -> None:
        super().close()
        self._end_block()

    def _end_block(self) -> None:
        text = "".join(self._line)
        if text.strip() == "-" and not self._pre:
            self._line = ["- "]  # the mark of a list's item, whose paragraph begins now
            return
        self._line = []
        if self._pre:
            text = "\n".join(part.rstrip() for part in text.splitlines()).strip("\n")
            text = re.sub(r"\n{2,}", "\n", text)  # an empty line is the border between blocks
        else:
            text = " ".join(text.split())
        if text.strip():
            self.blocks.append(text)


def _left_out(tag: str, attributes: dict[str, str | None]) -> bool:
    classes = set((attributes.get("class") or "").lower().split())
    return (
        tag in _SKIPPED
        or attributes.get("role") in ("navigation", "search", "contentinfo", "note")
        or attributes.get("id") in _SKIPPED_IDS
        or bool(classes & _SKIPPED_CLASSES)
    )


def to_text(path: Path) -> str:
    """The page's words; blocks are parted by an empty line, items of lists that follow each other are not."""
    parser = _Text()
    parser.feed(_decoded(path.read_bytes()))
    parser.close()
    text = ""
    for block in parser.blocks:
        close = block.startswith("- ") and text.rpartition("\n\n")[2].startswith("- ")
        text += ("\n" if close else "\n\n" if text else "") + block
    return text.replace("\u00a0", " ").replace("\u00b6", "").replace("\u00ad", "")


def links(path: Path) -> list[str]:
    """File names in the same folder that a page links, in its order, without what follows a ``#``."""
    return re.findall(r"""href=["']([\w.+-]+\.html)""", _decoded(path.read_bytes()))


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")
