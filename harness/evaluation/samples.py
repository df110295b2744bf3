"""Samples made ready: truncated and rendered so that prompt and answer fit."""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from ..contracts.method import Method
from ..contracts.outputs import Decoding
from ..contracts.prompt import Prompt, TokenizedPrompt
from ..contracts.record import Truncation
from ..contracts.task import Sample, Task
from ..errors import Unavailable, UsageError
from ..prompts.questions import joined, question_texts
from ..prompts.rendering import render, tokenize
from ..prompts.tokenization import encode, spells_special, token_ids
from ..prompts.truncation import AUTO, first_place, truncate
from .apart import apart
from .choices import InTokens, in_tokens, stop_ids

if TYPE_CHECKING:
    from ..models.model import LanguageModel
    from .settings import RunSettings


@dataclass
class PreparedSample:
    """A sample ready to be asked: its prompt truncated and rendered.

    Attributes
    ----------
    tokens, question_tokens
        Tokens of the whole rendered prompt, and of what follows its context.
    context_hash
        Of the token ids before the question: samples that share it are questions over one context.
    answer_token
        The token of the rendered prompt at which an accepted answer first stands in the context, word for word;
        None if none does.
    continuations
        Token ids of the sample's choices; empty: an answer is generated.
    spelled
        Whether its own words spell a special token, which is read as text.
    alone
        Places of the choices that were tokenised without the prompt (see `harness.evaluation.choices.in_tokens`).
    questions
        Of a sample with several questions each as a sample of its own; all have the same tokens before the question.
        `rendered` is then the prompt of one of them, `tokens` their mean, `question_tokens` and `decoding` the longest.
    given
        The prompt in tokens where it is no tokenised text: it holds an answer as the model gave it.
    """

    task: Task
    sample: Sample
    rendered: Prompt
    tokens: int
    question_tokens: int
    context_hash: str
    truncation: Truncation
    decoding: Decoding
    answer_token: int | None = None
    continuations: tuple[tuple[int, ...], ...] = ()
    spelled: bool = False
    alone: tuple[int, ...] = ()
    questions: tuple[PreparedSample, ...] = ()
    given: TokenizedPrompt | None = None

    @property
    def each(self) -> tuple[PreparedSample, ...]:
        """The questions, or the sample itself if it is one."""
        return self.questions or (self,)

    def tokenized(self, model: LanguageModel) -> TokenizedPrompt:
        """The rendered prompt in tokens."""
        return self.given or tokenize(self.rendered, model)

    @property
    def prompt_hash(self) -> str:
        """Sixteen hex digits of the rendered prompt and its choices: resuming on other data is noticed."""
        if self.questions:
            return hashlib.sha256("".join(q.prompt_hash for q in self.questions).encode()).hexdigest()[:16]
        asked = "\0".join((self.rendered.text, *self.sample.choices))
        if self.spelled:  # earlier versions read it as control tokens
            asked += "\0special tokens in data are text"
        return hashlib.sha256(asked.encode()).hexdigest()[:16]

    @property
    def text_hash(self) -> str | None:
        """Sixteen hex digits of what the sample shares with others: its raw context, unless its task says another."""
        shared = self.sample.shares or self.sample.prompt.context
        return hashlib.sha256(shared.encode()).hexdigest()[:16] if shared.strip() else None

    @property
    def key(self) -> tuple[str, str]:
        return self.task.name, self.sample.id

    def without_texts(self) -> PreparedSample:
        """What a plan of many runs needs of it: its name and its sizes. It cannot be asked."""
        nothing = Prompt("", "", "")
        bare = Sample(self.sample.id, nothing, (), self.sample.new_tokens)
        return replace(
            self,
            sample=bare,
            rendered=nothing,
            questions=tuple(q.without_texts() for q in self.questions),
            given=None,
        )


def prepare_sample(task: Task, sample: Sample, method: Method, settings: RunSettings) -> PreparedSample:
    """Truncate and render one sample so that template, prompt and answer fit what the method reads.

    Raises
    ------
    UsageError
        With the arithmetic, if they cannot.
    """
    if sample.questions:
        return _several(task, sample, method, settings)
    model = method.model
    budget = _budget(task, sample, method, settings)
    limit = budget.limit
    rule = task.truncation if settings.truncate == AUTO else settings.truncate
    while True:
        cut, truncation = truncate(
            sample.prompt, rule, limit, model.tokenizer, sample.references, task.shorten
        )
        made = budget.uncut if cut is sample.prompt else _rendered(cut, sample, model)
        ids = budget.ids if made is budget.uncut else _tokens(made.prompt, sample, model)
        new_tokens = max(map(len, made.continuations), default=sample.new_tokens)
        excess = 0 if budget.room is None else len(ids) + new_tokens - budget.room
        if excess <= 0:
            break
        # The two decoded parts joined may tokenise a little longer than the limit: cut that much more.
        limit = (budget.prompt if limit is None else limit) - excess
        if limit < 1:
            raise UsageError(
                f"task {task.name}: {budget.arithmetic} leave too little of the {budget.room} tokens {_reads(settings)}"
            )
    return _ready(task, sample, model, made, ids, truncation, new_tokens)


def _ready(
    task: Task,
    sample: Sample,
    model: LanguageModel,
    made: InTokens,
    ids: TokenizedPrompt,
    truncation: Truncation,
    new_tokens: int,
) -> PreparedSample:
    """What fits, as it will be asked."""
    return PreparedSample(
        task=task,
        sample=sample,
        rendered=made.prompt,
        tokens=len(ids),
        question_tokens=len(ids) - ids.context_end,
        context_hash=hashlib.sha256(array("q", ids.head_ids).tobytes()).hexdigest()[:16],
        truncation=truncation,
        decoding=Decoding(new_tokens, sample.min_new_tokens, stop_ids(sample, model)),
        answer_token=ids.found,
        continuations=made.continuations,
        spelled=_spelled(made.prompt, model),
        alone=made.alone,
    )


def _several(task: Task, sample: Sample, method: Method, settings: RunSettings) -> PreparedSample:
    """A sample with several questions: its context is cut once, so that the longest of them fits."""
    model = method.model
    texts = question_texts(sample, model)
    sizes = [len(encode(model.tokenizer, "".join(text.parts), special=False)) for text in texts]
    earlier = [
        sum(q.new_tokens for q in sample.questions[:k]) * (sample.turns == "own") for k in range(len(texts))
    ]
    needs = [size + before + q.new_tokens for size, before, q in zip(sizes, earlier, sample.questions)]
    widest = max(range(len(needs)), key=needs.__getitem__)
    alone = sample.asked(widest)
    shortest = question_texts(replace(sample, turns="apart"), model)[widest]
    own = len(encode(model.tokenizer, "".join(shortest.parts), special=False))
    beyond = max(0, needs[widest] - own)  # answers, and the turns that came before
    budget = _budget(task, replace(alone, new_tokens=max(1, beyond)), method, settings)
    asked = len(encode(model.tokenizer, alone.prompt.suffix, special=False))
    limit = budget.limit
    rule = task.truncation if settings.truncate == AUTO else settings.truncate
    while True:
        room = None if limit is None else limit - asked
        if room is not None and room < 1:
            raise UsageError(
                f"task {task.name}: sample {sample.id}: questions and answers leave nothing of the "
                f"{budget.room or limit} tokens {_reads(settings)} to the context"
            )
        cut, truncation = truncate(
            sample.prompt, rule, room, model.tokenizer, sample.references, task.shorten
        )
        ready = [
            _question(task, sample, number, method, joined(cut, sample, text, model), truncation)
            for number, text in enumerate(texts)
        ]
        longest = max(q.tokens + before + q.decoding.max_new_tokens for q, before in zip(ready, earlier))
        excess = 0 if budget.room is None else longest - budget.room
        if excess <= 0:
            break
        limit = (budget.prompt if limit is None else limit) - excess
    whole = ready[-1 if sample.turns != "apart" else 0]
    return replace(
        whole,
        sample=sample,
        tokens=round(sum(q.tokens for q in ready) / len(ready)),
        question_tokens=max(q.question_tokens + before for q, before in zip(ready, earlier)),
        decoding=replace(whole.decoding, max_new_tokens=max(q.decoding.max_new_tokens for q in ready)),
        spelled=any(q.spelled for q in ready),
        questions=tuple(ready),
    )


def _question(
    task: Task, sample: Sample, number: int, method: Method, rendered: Prompt, truncation: Truncation
) -> PreparedSample:
    """One of several questions over a context that has been cut."""
    alone = sample.asked(number)
    ids = _tokens(rendered, alone, method.model)
    return _ready(task, alone, method.model, InTokens(rendered, ()), ids, truncation, alone.new_tokens)


def _tokens(prompt: Prompt, sample: Sample, model: LanguageModel) -> TokenizedPrompt:
    """The tokens of a rendered prompt, and the one at which an accepted answer first stands in its context."""
    place = first_place(prompt.context, sample.references)
    return tokenize(prompt, model, None if place is None else len(prompt.prefix) + place)


def _spelled(prompt: Prompt, model: LanguageModel) -> bool:
    """Whether the task's own words in a rendered prompt spell a special token."""
    return any(spells_special(model.tokenizer, prompt.text[a:b]) for a, b in prompt.data or ())


class _Budget(NamedTuple):
    """Tokens there are for a prompt: what the method reads, what the raw prompt has, and what it may keep.

    `uncut` and `ids` are the whole prompt, rendered and in tokens.
    """

    uncut: InTokens
    ids: TokenizedPrompt
    room: int | None
    prompt: int
    limit: int | None
    arithmetic: str


def _budget(task: Task, sample: Sample, method: Method, settings: RunSettings) -> _Budget:
    """How much of a raw prompt fits beside template and answer; raises UsageError if nothing does."""
    model = method.model
    uncut = _rendered(sample.prompt, sample, model)
    new_tokens = max(map(len, uncut.continuations), default=sample.new_tokens)
    bare = len(token_ids(model.tokenizer, sample.prompt.text, data=sample.prompt.special_tokens))
    ids = _tokens(uncut.prompt, sample, model)
    overhead = max(0, len(ids) - bare)
    room = _room(method, new_tokens)
    free = None if room is None else room - overhead - new_tokens
    arithmetic = f"{overhead} template + {new_tokens} new tokens"
    if free is not None and free < 1:
        raise Unavailable(
            f"task {task.name}: {arithmetic} leave nothing of the {room} tokens {_reads(settings)}"
        )
    limit = settings.max_context
    if limit is None:
        # A habit of the literature cuts; whoever forbids cutting wants what fits, whatever the habit.
        habits = (
            [] if settings.truncate == "none" else [task.max_context(), apart(method.default_max_context)]
        )
        limit = min((n for n in (*habits, free) if n is not None), default=None)
    elif free is not None and min(limit, bare) > free:
        raise UsageError(
            f"task {task.name}: {min(limit, bare)} prompt + {arithmetic} = "
            f"{min(limit, bare) + overhead + new_tokens} > {room}, what {_reads(settings)} on "
            f"{settings.model}; lower --max-context to {free}"
        )
    return _Budget(uncut, ids, room, bare, limit, arithmetic)


def _reads(settings: RunSettings) -> str:
    """Who reads no more, in a message."""
    under = "" if settings.budget is None else f" under --budget {settings.budget}"
    return f"{settings.method} can read{under}"


def _room(method: Method, new_tokens: int) -> int | None:
    """Tokens of prompt and answer together that the method reads, whatever it is that limits them."""
    prompt = apart(method.prompt_limit)
    limits = (apart(method.context_limit), None if prompt is None else prompt + new_tokens)
    return min((limit for limit in limits if limit is not None), default=None)


def _rendered(prompt: Prompt, sample: Sample, model: LanguageModel) -> InTokens:
    """A raw prompt as the model reads it, with the sample's choices in tokens."""
    whole = render(prompt, model, chat=sample.chat, answer_prefix=sample.answer_prefix)
    return in_tokens(sample, whole, model.tokenizer)
