"""Samples made ready: truncated and rendered so that prompt and answer fit."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ..contracts.method import Method
from ..contracts.outputs import Decoding
from ..contracts.prompt import Prompt
from ..contracts.record import Truncation
from ..contracts.task import Sample, Task, TaskEnvironment
from ..errors import Unavailable, UsageError
from ..prompts.rendering import render, tokenize
from ..prompts.tokenization import spells_special, token_ids
from ..prompts.truncation import first_place, truncate
from .apart import apart
from .choices import InTokens, in_tokens, stop_ids
from .task_environment import task_environment

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

    @property
    def prompt_hash(self) -> str:
        """Sixteen hex digits of the rendered prompt and its choices: resuming on other data is noticed."""
        asked = "\0".join((self.rendered.text, *self.sample.choices))
        if self.spelled:  # earlier versions read it as control tokens
            asked += "\0special tokens in data are text"
        return hashlib.sha256(asked.encode()).hexdigest()[:16]

    @property
    def key(self) -> tuple[str, str]:
        return self.task.name, self.sample.id


def collect_samples(
    tasks: Sequence[Task], method: Method, settings: RunSettings
) -> tuple[list[PreparedSample], dict[str, str]]:
    """The samples of all tasks, and why those members of groups that cannot be asked here are left out."""
    samples: list[PreparedSample] = []
    unavailable: dict[str, str] = {}
    for task in tasks:
        env = task_environment(
            method.model,
            seed=settings.seed,
            data_dir=settings.data_dir,
            offline=settings.offline,
            limit=settings.limit,
            trust_task_code=settings.trust_task_code,
        )
        try:
            made = _take(task, env, settings, method)
        except Unavailable as error:
            if task.name in settings.tasks:
                raise
            unavailable[task.name] = str(error)
            continue
        if not made:
            raise UsageError(f"task {task.name} has no samples")
        samples += made
    if not samples:
        raise UsageError("; ".join(dict.fromkeys(unavailable.values())))
    return samples, unavailable


def _take(task: Task, env: TaskEnvironment, settings: RunSettings, method: Method) -> list[PreparedSample]:
    made, ids = [], set()
    for number, sample in enumerate(task.samples(env)):
        if settings.limit is not None and number >= settings.limit:
            break
        if sample.id in ids:
            raise UsageError(f"task {task.name} gives the id {sample.id!r} twice")
        ids.add(sample.id)
        try:
            writable([sample.id, sample.prompt.text, sample.references, sample.metadata])
        except (TypeError, ValueError) as error:
            why = "it holds half a character" if isinstance(error, UnicodeEncodeError) else error
            raise UsageError(
                f"task {task.name}: sample {sample.id!a} cannot be written down: {why}"
            ) from None
        made.append(prepare_sample(task, sample, method, settings))
    return made


def writable(content: Any) -> None:
    """Raise TypeError or ValueError for what is not JSON, or holds halves of characters (lone surrogates)."""
    json.dumps(content, ensure_ascii=False, allow_nan=False).encode()


def prepare_sample(task: Task, sample: Sample, method: Method, settings: RunSettings) -> PreparedSample:
    """Truncate and render one sample so that template, prompt and answer fit what the method reads.

    Raises
    ------
    UsageError
        With the arithmetic, if they cannot.
    """
    model = method.model
    budget = _budget(task, sample, method, settings)
    limit = budget.limit
    while True:
        cut, truncation = truncate(
            sample.prompt, settings.truncate, limit, model.tokenizer, sample.references
        )
        made = budget.uncut if cut is sample.prompt else _rendered(cut, sample, model)
        place = first_place(made.prompt.context, sample.references)
        ids = tokenize(made.prompt, model, None if place is None else len(made.prompt.prefix) + place)
        new_tokens = max(map(len, made.continuations), default=sample.new_tokens)
        excess = 0 if budget.room is None else len(ids) + new_tokens - budget.room
        if excess <= 0:
            break
        # The two decoded parts joined may tokenise a little longer than the limit: cut that much more.
        limit = (budget.prompt if limit is None else limit) - excess
        if limit < 1:
            raise UsageError(
                f"task {task.name}: {budget.arithmetic} leave too little of the {budget.room} tokens "
                f"{settings.method} can read"
            )
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


def _spelled(prompt: Prompt, model: LanguageModel) -> bool:
    """Whether the task's own words in a rendered prompt spell a special token."""
    start, stop = prompt.data or (0, 0)
    return spells_special(model.tokenizer, prompt.text[start:stop])


class _Budget(NamedTuple):
    """Tokens there are for a prompt: what the method reads, what the raw prompt has, and what it may keep."""

    uncut: InTokens
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
    overhead = max(0, len(tokenize(uncut.prompt, model)) - bare)
    room = apart(method.context_limit)
    free = None if room is None else room - overhead - new_tokens
    arithmetic = f"{overhead} template + {new_tokens} new tokens"
    if free is not None and free < 1:
        raise Unavailable(
            f"task {task.name}: {arithmetic} leave nothing of the {room} tokens {settings.method} can read"
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
            f"{min(limit, bare) + overhead + new_tokens} > {room}, what {settings.method} can read on "
            f"{settings.model}; lower --max-context to {free}"
        )
    return _Budget(uncut, room, bare, limit, arithmetic)


def _rendered(prompt: Prompt, sample: Sample, model: LanguageModel) -> InTokens:
    """A raw prompt as the model reads it, with the sample's choices in tokens."""
    whole = render(prompt, model, chat=sample.chat, answer_prefix=sample.answer_prefix)
    return in_tokens(sample, whole, model.tokenizer)
