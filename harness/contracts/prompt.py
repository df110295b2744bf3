"""A prompt in parts, as text and as token ids."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

Span = tuple[int, int]
"""Characters of a text, from and to."""


@dataclass(frozen=True)
class Turn:
    """Where a turn of a conversation begins in a prompt's text, and whose it is.

    Attributes
    ----------
    role
        ``"system"`` (the first turn only), ``"user"`` or ``"assistant"``.
    start
        Its first character in ``Prompt.text``; it ends where the next one begins.
    """

    role: str
    start: int


@dataclass(frozen=True)
class Prompt:
    """A prompt as text. ``prefix + context + suffix`` is exactly what is tokenised.

    Attributes
    ----------
    prefix, context, suffix
        Instruction, long text, and whatever follows it.
    question
        The bare question inside the suffix, for retrieval; empty where the task asks none in words of its
        own (a summary), and the suffix then has to do.
    special_tokens
        False: the tokenizer adds none of its special tokens (BOS); for texts that come with theirs.
    turns
        If not empty the text is a conversation: the words of its turns, one after another with nothing between, which
        the model's chat template frames. The last turn is the user's (`harness.prompts.conversation` makes such
        prompts). Empty once rendered.
    joints
        Characters at which the text is cut before it is tokenised, each piece by itself: no token stands across them.
    data
        Stretches of the text that are the task's and no template's: what spells a special token there is read as
        text. None: whatever spells a special token is one. Set by `harness.prompts.render`.
    """

    prefix: str
    context: str
    suffix: str
    question: str = ""
    special_tokens: bool = True
    turns: tuple[Turn, ...] = ()
    joints: tuple[int, ...] = ()
    data: tuple[Span, ...] | None = field(default=None, compare=False)

    @property
    def text(self) -> str:
        """The three parts joined."""
        return self.prefix + self.context + self.suffix


class Head(tuple[int, ...]):
    """Token ids of everything before the question, with the border inside it, and its text; else a tuple like any.

    Attributes
    ----------
    context_start
        Ids before it are the instruction's and the chat template's.
    prefix, context
        The text of both parts.
    """

    context_start: int
    prefix: str
    context: str

    def __new__(cls, ids: Iterable[int], context_start: int = 0, prefix: str = "", context: str = "") -> Head:
        made = super().__new__(cls, ids)
        made.context_start, made.prefix, made.context = context_start, prefix, context
        return made

    @property
    def prefix_ids(self) -> tuple[int, ...]:
        """The instruction and what the chat template puts before it."""
        return self[: self.context_start]

    @property
    def context_ids(self) -> tuple[int, ...]:
        """The long text."""
        return self[self.context_start :]


class Tail(tuple[int, ...]):
    """Token ids of the question and what follows it, with its text; else a tuple like any.

    Attributes
    ----------
    suffix
        The text of all of it, the chat template's included.
    question
        The bare question, for retrieval; empty where the task asks none in words of its own.
    """

    suffix: str
    question: str

    def __new__(cls, ids: Iterable[int], suffix: str = "", question: str = "") -> Tail:
        made = super().__new__(cls, ids)
        made.suffix, made.question = suffix, question
        return made


@dataclass(frozen=True)
class TokenizedPrompt:
    """A rendered prompt as token ids, with the place of its context; what methods receive.

    Attributes
    ----------
    prompt
        The rendered text, chat template included.
    ids
        All token ids, special tokens included, in reading order.
    context_start, context_end
        ``ids[context_start:context_end]`` is the context. A token that straddles a border belongs to the
        earlier part. At least one token always follows `context_end`.
    found
        The token that holds the character `tokenize` was asked to find.
    """

    prompt: Prompt
    ids: tuple[int, ...]
    context_start: int
    context_end: int
    found: int | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def head_ids(self) -> Head:
        """Everything before the question: prefix and context."""
        return Head(self.ids[: self.context_end], self.context_start, self.prompt.prefix, self.prompt.context)

    @property
    def suffix_ids(self) -> Tail:
        """The question and whatever follows it; never empty."""
        return Tail(self.ids[self.context_end :], self.prompt.suffix, self.prompt.question)
