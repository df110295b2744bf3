"""Tokenising texts of any length in little memory, to exactly the tokens of the whole text.

A tokenizer takes some 700 bytes a token to read a text at once. A long one is read in blocks that overlap,
and the blocks are joined where both agree about the tokens around a blank.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from ..contracts.prompt import Span
from ..models.tokenizer_file import around

BLOCK = 250_000
"""Characters of a block; shorter texts are tokenised at once."""
OVERLAP = 4_000
"""Characters that neighbouring blocks share."""
AGREE = 8
"""Tokens on either side of a joint that must be the same in both blocks."""


class Tokens:
    """The tokens of a text, and the characters each stands for.

    Attributes
    ----------
    ids
        Token ids.
    starts, stops
        Characters ``starts[i]:stops[i]`` of the text for each token; equal for special tokens.
    """

    def __init__(self) -> None:
        self.ids, self.starts, self.stops = array("q"), array("q"), array("q")

    def __len__(self) -> int:
        return len(self.ids)

    def first_from(self, char: int) -> int | None:
        """The first token that begins at `char` or later and stands for something; None if there is none."""
        spans = enumerate(zip(self.starts, self.stops))
        return next((i for i, (start, stop) in spans if stop > start and start >= char), None)

    def holding(self, char: int) -> int | None:
        """The token that stands for the character `char` of the text; None if there is none."""
        spans = enumerate(zip(self.starts, self.stops))
        return next((i for i, (start, stop) in spans if start <= char < stop), None)

    def add(self, ids: Any, spans: Any, shift: int = 0) -> None:
        """Append tokens whose characters count from `shift`."""
        self.ids.extend(ids)
        self.starts.extend(start + shift for start, _ in spans)
        self.stops.extend(stop + shift for _, stop in spans)

    def cut(self, start: int, stop: int) -> Tokens:
        """Tokens ``start:stop``."""
        part = Tokens()
        part.ids, part.starts, part.stops = (
            self.ids[start:stop],
            self.starts[start:stop],
            self.stops[start:stop],
        )
        return part

    def join(self, other: Tokens, shift: int = 0) -> None:
        """Append another's tokens, whose characters count from `shift`."""
        self.ids.extend(other.ids)
        if shift:
            self.starts.extend(start + shift for start in other.starts)
            self.stops.extend(stop + shift for stop in other.stops)
            return
        self.starts.extend(other.starts)
        self.stops.extend(other.stops)


def encode(
    tokenizer: Any,
    text: str,
    *,
    special: bool = True,
    data: Sequence[Span] | None = None,
    joints: Sequence[int] = (),
) -> Tokens:
    """The tokens of `text`, after the tokenizer's own first tokens if `special`.

    The same as tokenising the whole text at once, except that nothing stands after it: what comes next is an answer,
    and an end token there would say that all is said. Where two blocks never agree (a text without blanks), the
    text is tokenised at once.

    Parameters
    ----------
    data
        Stretches in which what spells a special token is text (see `harness.Prompt`).
    joints
        Characters, ascending, at which the text is cut into pieces that are tokenised each by itself.
    """
    joined = Tokens()
    for start, stop in zip((0, *joints), (*joints, len(text))):
        joined.join(_piece(tokenizer, text[start:stop]), start)
    if data is not None:
        joined = _as_text(tokenizer, text, joined, data)
    if not special:
        return joined
    before, _ = around(tokenizer)
    whole = Tokens()
    whole.add(before, [(0, 0)] * len(before))
    whole.join(joined)
    return whole


def _piece(tokenizer: Any, text: str) -> Tokens:
    """The tokens of a text without special tokens around it, in blocks if it is long."""
    joined = _in_blocks(tokenizer, text) if len(text) > BLOCK else None
    return _at_once(tokenizer, text, False) if joined is None else joined


def token_ids(tokenizer: Any, text: str, *, data: bool = False) -> list[int]:
    """The ids of `text`, the tokenizer's first tokens included; `data`: what spells a special token is text."""
    if len(text) > BLOCK or (data and spells_special(tokenizer, text)):
        return list(encode(tokenizer, text, data=((0, len(text)),) if data else None).ids)
    # Where nobody asks for characters, many tokenizers are faster.
    return [*around(tokenizer)[0], *tokenizer(text, add_special_tokens=False)["input_ids"]]


def spells_special(tokenizer: Any, text: str) -> bool:
    """Whether one of the tokenizer's special tokens is spelled in the text."""
    return any(t.special and t.content in text for t in tokenizer.added_tokens_decoder.values())


def _as_text(tokenizer: Any, text: str, tokens: Tokens, data: Sequence[Span]) -> Tokens:
    """`tokens` of `text`, with the special tokens that stand within `data` replaced by the tokens of their letters."""
    spelled = [(start, stop) for start, stop in data if spells_special(tokenizer, text[start:stop])]
    if not spelled:
        return tokens
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    made = Tokens()
    for i, (token, first, last) in enumerate(zip(tokens.ids, tokens.starts, tokens.stops)):
        if token in special and any(start <= first < last <= stop for start, stop in spelled):
            made.add(*_letters(tokenizer, text[first:last]), shift=first)
        else:
            made.join(tokens.cut(i, i + 1))
    return made


def _letters(tokenizer: Any, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """The ids and characters of a text in which nothing is a special token."""
    backend = tokenizer.backend_tokenizer
    before = backend.encode_special_tokens
    backend.encode_special_tokens = True
    try:
        found = backend.encode(text, add_special_tokens=False)
    finally:
        backend.encode_special_tokens = before
    return list(found.ids), list(found.offsets)


def _at_once(tokenizer: Any, text: str, special: bool) -> Tokens:
    found = tokenizer(text, add_special_tokens=special, return_offsets_mapping=True)
    tokens = Tokens()
    tokens.add(found["input_ids"], found["offset_mapping"])
    return tokens


def _in_blocks(tokenizer: Any, text: str) -> Tokens | None:
    whole = Tokens()
    start = 0
    while True:
        stop = min(len(text), start + BLOCK)
        found = tokenizer(text[start:stop], add_special_tokens=False, return_offsets_mapping=True)
        block = Tokens()
        block.add(found["input_ids"], found["offset_mapping"], start)
        if start == 0:
            whole = block
        else:
            joint = _joint(text, whole, block)
            if joint is None:
                return None
            whole = whole.cut(0, joint[0])
            whole.join(block.cut(joint[1], len(block)))
        if stop == len(text):
            return whole
        start = stop - OVERLAP


def _joint(text: str, left: Tokens, right: Tokens) -> tuple[int, int] | None:
    """Where the right block can take over: an index into either, nearest to the middle of their overlap.

    Both must agree about the `AGREE` tokens before and after, and a blank must be at the joint: what stands
    on the two sides of a blank are different words to a tokenizer, and do not depend on each other.
    """
    first = bisect_left(left.starts, right.starts[0])
    at = {start: i for i, start in enumerate(right.starts[: len(left) - first + AGREE])}
    middle = (first + len(left)) // 2
    for i in sorted(range(first + AGREE, len(left) - AGREE), key=lambda i: abs(i - middle)):
        j = at.get(left.starts[i])
        place = left.starts[i]
        if j is None or j < AGREE or not (text[place].isspace() or text[place - 1].isspace()):
            continue
        if left.ids[i - AGREE : i + AGREE] == right.ids[j - AGREE : j + AGREE]:
            return i, j
    return None


def trailing_blanks(context: str) -> int:
    """Characters at the end of a context that are read as the beginning of its continuation (lm-eval's rule)."""
    return len(context) - len(context.rstrip())


def continuation_ids(
    tokenizer: Any,
    context: str,
    continuation: str,
    special: bool = True,
    data: Sequence[Span] | None = None,
    joints: Sequence[int] = (),
) -> list[int]:
    """Tokens of `continuation` after `context`, which must not end in blanks: both tokenised as one text.

    As lm-eval does for causal models: what the text has beyond the number of the context's own tokens. A
    token that straddles the border therefore counts to whichever side that number leaves it on.
    """
    whole = encode(tokenizer, context + continuation, special=special, data=data, joints=joints).ids
    return whole[len(encode(tokenizer, context, special=special, data=data, joints=joints)) :].tolist()
