"""Rows of training data as token ids, by the rules of Activation Beacon v1 (see `harness.training.mixture`)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..contracts.prompt import Prompt
from ..models import chat_template
from ..models.tokenizer_file import around
from ..prompts.rendering import adds_special, render
from .rows import Row

if TYPE_CHECKING:
    from ..models.model import LanguageModel

SEPARATORS = (" ", "\n", "\n\n")
"""Between prompt and answer, one drawn for each example."""


class Tokenizing:
    """Rows to token ids; `dropped` counts what is left out, by reason, since it was last emptied."""

    def __init__(
        self, model: LanguageModel, min_length: int, max_length: int, seed: int, split: bool, chat: bool
    ) -> None:
        self.model, self.seed, self.split, self.chat = model, seed, split, chat
        self.min_length, self.max_length = min_length, max_length
        self.dropped: Counter[str] = Counter()
        tokenizer: Any = model.tokenizer
        self._tokenizer = tokenizer
        self._after = len(around(tokenizer)[1])
        self._end = self._end_id()

    def _end_id(self) -> int:
        """What an answer ends with: with `chat` the end of a turn if the template has one, else of a text."""
        tokenizer = self._tokenizer
        if self.chat and self.model.chat == "template":
            if (turn := chat_template.turn_end(tokenizer)) is not None:
                return turn
            vocabulary = tokenizer.get_vocab()
            for token in chat_template.TURN_ENDS:
                if token in tokenizer.chat_template and token in vocabulary:
                    return int(vocabulary[token])
        end = tokenizer.eos_token_id
        return int(end) if end is not None else self.model.end_ids[0]

    def examples(self, batch: Sequence[tuple[int, Row]], identity: str) -> list[list[tuple[list[int], int]]]:
        """For each row its examples: token ids, and how many of them, from the first, are not learnt."""
        texts, borders, special = [], [], []
        for number, row in batch:
            head = self._head(row, f"{self.seed} {identity} {number}")
            texts.append(head.text + (row.answer or ""))
            borders.append(len(head.text))
            special.append(adds_special(head, self._tokenizer))
        made = []
        for (_, row), border, encoded in zip(batch, borders, self._encode(texts, special, batch)):
            ids, offsets = encoded
            made.append(self._text(ids) if row.answer is None else self._pair(ids, offsets, border))
        return made

    def _head(self, row: Row, draw: str) -> Prompt:
        """What stands before the answer."""
        if row.answer is None:
            return Prompt("", row.text, "")
        if self.chat:
            return render(Prompt("", row.text, ""), self.model, chat=True)
        return Prompt("", row.text, random.Random(draw).choice(SEPARATORS))

    def _encode(
        self, texts: Sequence[str], specials: Sequence[bool], batch: Sequence[tuple[int, Row]]
    ) -> list[tuple[list[int], Sequence[tuple[int, int]]]]:
        """Token ids, and for pairs the span of characters of each; a first token that is there is not put twice."""
        found: list[tuple[list[int], Sequence[tuple[int, int]]]] = [([], ())] * len(texts)
        groups: dict[tuple[bool, bool], list[int]] = {}
        for place, (special, (_, row)) in enumerate(zip(specials, batch)):
            groups.setdefault((special, row.answer is not None), []).append(place)
        for (special, spans), places in groups.items():
            encoded = self._tokenizer(
                [texts[place] for place in places], add_special_tokens=special, return_offsets_mapping=spans
            )
            for index, place in enumerate(places):
                ids = encoded["input_ids"][index]
                kept = len(ids) - (self._after if special else 0)  # what a row ends with is said by `_end`
                found[place] = ids[:kept], encoded["offset_mapping"][index][:kept] if spans else ()
        return found

    def _text(self, ids: list[int]) -> list[tuple[list[int], int]]:
        if len(ids) < self.min_length:
            self.dropped["shorter than min_length"] += 1
            return []
        if len(ids) <= self.max_length or not self.split:
            return [(ids[: self.max_length], 0)]
        head = ids[:1] if self.max_length > 1 and ids[0] == self._tokenizer.bos_token_id else []
        body, size = ids[len(head) :], self.max_length - len(head)
        pieces = [head + body[start : start + size] for start in range(0, len(body), size)]
        if len(pieces[-1]) < self.min_length:
            self.dropped["remainder of a text, shorter than min_length"] += 1
            pieces.pop()
        return [(piece, 0) for piece in pieces]

    def _pair(
        self, ids: list[int], offsets: Sequence[tuple[int, int]], border: int
    ) -> list[tuple[list[int], int]]:
        # A token that holds the separator and the answer's first letters is the answer's: it must be learnt.
        first = next(
            (i for i, (start, stop) in enumerate(offsets) if stop > border and stop > start), len(ids)
        )
        prompt, answer = ids[:first], ids[first:]
        if not answer or answer[-1] != self._end:
            answer.append(self._end)
        room = self.max_length - len(answer)
        if room < 1:
            self.dropped["answer longer than max_length"] += 1
            return []
        if len(prompt) + len(answer) < self.min_length:
            self.dropped["shorter than min_length"] += 1
            return []
        if len(prompt) > room:
            late = room // 2
            prompt = prompt[: room - late] + prompt[len(prompt) - late :]
        return [(prompt + answer, len(prompt))]
