"""Rows of training data as token ids, by the rules of Activation Beacon v1 (see `harness.training.mixture`)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..contracts.prompt import Prompt
from ..models import chat_template
from ..models.tokenizer_file import around
from ..prompts.rendering import adds_special, render
from ..prompts.tokenization import encode
from .rows import Row

if TYPE_CHECKING:
    from ..models.model import LanguageModel

Tokens = tuple[list[int], list[tuple[int, int]]]
"""An example: token ids, and the stretches ``[start, end)`` of them that are learnt, in order."""

SEPARATORS = (" ", "\n", "\n\n")
"""Between prompt and answer, one drawn for each answer."""


class _Written(NamedTuple):
    """A row as text.

    Attributes
    ----------
    answers
        Characters of the answers; what ends a turn belongs to its answer.
    data
        Characters in which nothing is a special token: answers, and prompts that the chat template is put around.
        Texts, and prompts without one, may have been written with theirs.
    special
        Whether the tokenizer puts its first tokens before it.
    """

    text: str
    answers: list[tuple[int, int]]
    data: list[tuple[int, int]]
    special: bool


class Tokenizing:
    """Rows to token ids.

    `dropped` counts what is left out, by reason, and `spelled` rows whose own words spell a special token, which are
    read as text; both since they were last emptied.
    """

    def __init__(
        self, model: LanguageModel, min_length: int, max_length: int, seed: int, split: bool, chat: bool
    ) -> None:
        self.model, self.seed, self.split, self.chat = model, seed, split, chat
        self.min_length, self.max_length = min_length, max_length
        self.dropped: Counter[str] = Counter()
        self.spelled = 0
        tokenizer: Any = model.tokenizer
        self._tokenizer = tokenizer
        self._after = len(around(tokenizer)[1])
        self._specials = [t.content for t in tokenizer.added_tokens_decoder.values() if t.special]
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

    def examples(self, batch: Sequence[tuple[int, Row]], identity: str) -> list[list[Tokens]]:
        """For each row its examples: token ids, and the stretches of them that are learnt."""
        written = [self._written(row, f"{self.seed} {identity} {number}") for number, row in batch]
        made: list[list[Tokens]] = []
        for (_, row), each, encoded in zip(batch, written, self._encode(written, batch)):
            ids, offsets = encoded
            answers = each.answers
            if row.answer is None:
                made.append(self._text(ids))
                continue
            found = self._dialogue(ids, _tokens_of(offsets, answers, len(ids)))
            made.append([(ids, [(0, len(ids))] if row.learn_all else spans) for ids, spans in found])
        return made

    def _written(self, row: Row, draw: str) -> _Written:
        """An example's text. The end of its last answer is put there as a token, once its length is known."""
        if row.answer is None:
            return _Written(row.text, [], [], adds_special(Prompt("", row.text, ""), self._tokenizer))
        source = random.Random(draw)
        first = self._first(row.exchanges[0][0], source)
        parts, answers, length = [], list[tuple[int, int]](), 0
        data = list(first.data or ())
        for number, (prompt, answer) in enumerate(row.exchanges):
            head = first.text if number == 0 else self._head(prompt, source)
            end = self._turn_end() if number < len(row.later) else ""
            if number < len(row.later) and self.chat and self.model.chat_frame.trims:
                answer = answer.strip()
            if number and self.chat:
                said = prompt.strip() if self.model.chat_frame.trims else prompt
                asked = length + head.find(said)
                data.append((asked, asked + len(said)))
            data.append((length + len(head), length + len(head) + len(answer)))
            answers.append((length + len(head), length + len(head) + len(answer) + len(end)))
            parts += [head, answer, end]
            length = answers[-1][1]
        return _Written("".join(parts), answers, data, adds_special(first, self._tokenizer))

    def _first(self, prompt: str, source: random.Random) -> Prompt:
        """What stands before the first answer."""
        if self.chat:
            return render(Prompt("", prompt, ""), self.model, chat=True)
        return Prompt("", prompt, source.choice(SEPARATORS))

    def _head(self, prompt: str, source: random.Random) -> str:
        """What stands before the answer of a later exchange, from the end of the turn before it on."""
        if not self.chat:
            return prompt + source.choice(SEPARATORS)
        frame = self.model.chat_frame
        begin = frame.between[len(self._turn_end()) :]
        return begin + (prompt.strip() if frame.trims else prompt) + frame.asked

    def _turn_end(self) -> str:
        """What ends an answer that is not the last: learnt, so that the model stops there."""
        end = str(self._tokenizer.convert_ids_to_tokens(self._end))
        if not self.chat:
            return end
        before, found, _ = self.model.chat_frame.between.partition(end)
        return before + found if found else ""

    def _encode(
        self, written: Sequence[_Written], batch: Sequence[tuple[int, Row]]
    ) -> list[tuple[list[int], Sequence[tuple[int, int]]]]:
        """Token ids, and for pairs the span of characters of each; a first token that is there is not put twice."""
        texts = [each.text for each in written]
        found: list[tuple[list[int], Sequence[tuple[int, int]]]] = [([], ())] * len(texts)
        groups: dict[tuple[bool, bool], list[int]] = {}
        for place, (each, (_, row)) in enumerate(zip(written, batch)):
            if any(
                special in each.text[start:stop] for start, stop in each.data for special in self._specials
            ):
                self.spelled += 1
                tokens = encode(self._tokenizer, each.text, special=each.special, data=each.data)
                found[place] = list(tokens.ids), list(zip(tokens.starts, tokens.stops))
                continue
            groups.setdefault((each.special, row.answer is not None), []).append(place)
        for (special, spans), places in groups.items():
            encoded = self._tokenizer(
                [texts[place] for place in places], add_special_tokens=special, return_offsets_mapping=spans
            )
            for index, place in enumerate(places):
                ids = encoded["input_ids"][index]
                kept = len(ids) - (self._after if special else 0)  # what a row ends with is said by `_end`
                found[place] = ids[:kept], encoded["offset_mapping"][index][:kept] if spans else ()
        return found

    def _text(self, ids: list[int]) -> list[Tokens]:
        if len(ids) < self.min_length:
            self.dropped["shorter than min_length"] += 1
            return []
        if len(ids) <= self.max_length or not self.split:
            return [(ids[: self.max_length], [(0, min(len(ids), self.max_length))])]
        head = ids[:1] if self.max_length > 1 and ids[0] == self._tokenizer.bos_token_id else []
        body, size = ids[len(head) :], self.max_length - len(head)
        pieces = [head + body[start : start + size] for start in range(0, len(body), size)]
        if len(pieces[-1]) < self.min_length:
            self.dropped["remainder of a text, shorter than min_length"] += 1
            pieces.pop()
        return [(piece, [(0, len(piece))]) for piece in pieces]

    def _dialogue(self, ids: list[int], answers: list[tuple[int, int]]) -> list[Tokens]:
        """As many whole exchanges as `max_length` takes, from the first; the first one alone loses its middle.

        Later questions are about what stood before them, so that nothing else can be left out of a dialogue.
        """
        kept = len(answers)
        while kept > 1 and self._ended(ids, answers[kept - 1]) > self.max_length:
            kept -= 1
        if kept < len(answers):
            self.dropped["later exchanges of a dialogue, beyond max_length"] += len(answers) - kept
        start, stop = answers[kept - 1]
        spans = [*answers[: kept - 1], (start, self._ended(ids, (start, stop)))]
        ids = ids[:stop]
        if len(ids) < spans[-1][1]:
            ids.append(self._end)
        if kept == 1:
            return self._pair(ids[:start], ids[start:])
        if len(ids) < self.min_length:
            self.dropped["shorter than min_length"] += 1
            return []
        return [(ids, spans)]

    def _ended(self, ids: list[int], answer: tuple[int, int]) -> int:
        """Where an answer ends once the token that ends it is there."""
        start, stop = answer
        return stop if stop > start and ids[stop - 1] == self._end else stop + 1

    def _pair(self, prompt: list[int], answer: list[int]) -> list[Tokens]:
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
        return [(prompt + answer, [(len(prompt), len(prompt) + len(answer))])]


def _tokens_of(
    offsets: Sequence[tuple[int, int]], stretches: Sequence[tuple[int, int]], size: int
) -> list[tuple[int, int]]:
    """Which of `size` tokens stretches of characters are; those after the last one belong to it.

    A token that holds the separator and the answer's first letters is the answer's: it must be learnt.
    """
    found = [(size, size)] * len(stretches)
    place = 0
    for token, (start, stop) in enumerate(offsets):
        if stop <= start:  # the tokenizer's own, for no characters
            continue
        while place < len(stretches) and start >= stretches[place][1]:
            place += 1
        if place == len(stretches):
            break
        if stop > stretches[place][0]:
            found[place] = (min(found[place][0], token), token + 1)
    if found:
        found[-1] = (found[-1][0], size)
    return found
