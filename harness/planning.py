"""What a run will ask: names, options, data and budgets checked, prompts truncated and rendered.

Everything that can be refused is refused here, by `plan_run`, before any weights are loaded.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import _timeouts, registry
from ._choices import in_tokens, stop_ids
from ._version import __version__
from .contracts.method import Method
from .contracts.outputs import Decoding
from .contracts.prompt import Prompt
from .contracts.task import Sample, Task, TaskEnvironment
from .environment import task_environment
from .errors import Unavailable, UsageError
from .models import adapters
from .models.loading import load as load_model
from .models.model import LanguageModel
from .prompts.render import render, tokenize
from .prompts.tokenization import token_ids
from .prompts.truncation import RULES, Truncation, first_place, truncate
from .results.run_folder import SCHEMA, RunFolder, folder_name

MOST = 2**40
"""Of samples and tokens: more than there will be anywhere, and a number that all of Python takes."""


@dataclass(frozen=True)
class RunSettings:
    """What a user asks for; the flags of ``harness run`` under the same names."""

    method: str = "plain"
    options: dict[str, Any] = field(default_factory=dict)
    tasks: tuple[str, ...] = ("passkey",)
    task_settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    model: str = "smollm2"
    adapter: Path | None = None  # None: what ships for the model, if anything
    context_length: int | None = None
    max_context: int | None = None
    truncate: str = "middle"
    chat: str = "auto"
    limit: int | None = None
    seed: int = 42
    dtype: str = "auto"
    device: str = "auto"
    batch_size: int = 1
    query_agnostic: bool = False
    share: bool = True
    data_dir: Path | None = None
    offline: bool = False
    sample_timeout: float | None = None  # seconds
    join: bool = False
    out: Path = Path("runs")
    trust_remote_code: bool = False


@dataclass
class Prepared:
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

    @property
    def prompt_hash(self) -> str:
        """Sixteen hex digits of the rendered prompt and its choices: resuming on other data is noticed."""
        asked = "\0".join((self.rendered.text, *self.sample.choices))
        return hashlib.sha256(asked.encode()).hexdigest()[:16]

    @property
    def key(self) -> tuple[str, str]:
        return self.task.name, self.sample.id


@dataclass
class RunPlan:
    """A run that has passed every check; nothing heavy is loaded yet.

    Attributes
    ----------
    tasks
        Those that will be asked.
    unavailable
        Members of groups that cannot be asked here, and why. One that was asked for by its own name is an error.
    """

    settings: RunSettings
    model: LanguageModel
    method: Method
    method_origin: str
    tasks: list[Task]
    samples: list[Prepared]
    identity: dict[str, Any]
    folder: RunFolder
    unavailable: dict[str, str] = field(default_factory=dict)


def plan_run(
    settings: RunSettings,
    note: Callable[[str], None] | None = None,
    load: Callable[..., LanguageModel] = load_model,
) -> RunPlan:
    """Check everything that can be checked before the model's weights are loaded.

    Parameters
    ----------
    note
        Told of what takes more than a moment.
    load
        Called as `harness.models.loading.load` is: who makes several runs may give one model to all of them.

    Raises
    ------
    UsageError
        For anything wrong with the request, in one line.
    """
    check_values(settings)
    plugin = registry.method(settings.method)
    options = plugin.cls.Options.parse(settings.options, f"method {settings.method}")
    tasks = registry.tasks(list(settings.tasks), settings.task_settings)
    model = load(
        settings.model,
        context_length=settings.context_length,
        dtype=settings.dtype,
        device=settings.device,
        offline=settings.offline,
        chat=settings.chat,
        trust_remote_code=settings.trust_remote_code,
        notify=note,
    )
    method = plugin.cls(model, options)
    if settings.query_agnostic:
        method.withhold_question()
    adapter = adapters.resolve(settings.adapter, method.default_adapter)
    if adapter is not None:
        method.load(adapter)
    samples, unavailable = _collect(tasks, method, settings)
    identity = _identity(settings, method, tasks, adapter)
    if plugin.file_hash is not None:  # a file has no version to go by: another text may give other answers
        identity["method_file"] = plugin.file_hash
    name = folder_name(settings.method, settings.model, identity)
    asked = [task for task in tasks if task.name not in unavailable]
    folder = RunFolder(settings.out / name)
    return RunPlan(settings, model, method, plugin.origin, asked, samples, identity, folder, unavailable)


def check_values(settings: RunSettings) -> None:
    """Refuse numbers and words that no run can have, whatever its method and model. Raises UsageError."""
    if settings.truncate not in RULES:
        raise UsageError(f"--truncate {settings.truncate}: choose from {', '.join(RULES)}")
    for flag, value in (
        ("limit", settings.limit),
        ("batch-size", settings.batch_size),
        ("max-context", settings.max_context),
    ):
        if value is not None and value < 1:
            raise UsageError(f"--{flag} must be at least 1, not {value}")
        if value is not None and value > MOST:
            raise UsageError(f"--{flag} must be at most {MOST:,}, not {value}")
    if not -(2**63) <= settings.seed < 2**63:
        raise UsageError(f"--seed {settings.seed}: must fit in 64 bits")
    _timeouts.check(settings.sample_timeout)


def _collect(
    tasks: Sequence[Task], method: Method, settings: RunSettings
) -> tuple[list[Prepared], dict[str, str]]:
    """The samples of all tasks, and why those members of groups that cannot be asked here are left out."""
    samples: list[Prepared] = []
    unavailable: dict[str, str] = {}
    for task in tasks:
        env = task_environment(
            method.model,
            seed=settings.seed,
            data_dir=settings.data_dir,
            offline=settings.offline,
            limit=settings.limit,
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


def _take(task: Task, env: TaskEnvironment, settings: RunSettings, method: Method) -> list[Prepared]:
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
            raise UsageError(
                f"task {task.name}: sample {sample.id!r} cannot be written down: {error}"
            ) from None
        made.append(prepare(task, sample, method, settings))
    return made


def writable(content: Any) -> None:
    """Raise TypeError or ValueError for what is not JSON, or holds halves of characters (lone surrogates)."""
    json.dumps(content, ensure_ascii=False, allow_nan=False).encode()


def prepare(task: Task, sample: Sample, method: Method, settings: RunSettings) -> Prepared:
    """Truncate and render one sample so that template, prompt and answer fit what the method reads.

    Raises
    ------
    UsageError
        With the arithmetic, if they cannot.
    """
    model = method.model
    wrap = {"chat": sample.chat, "answer_prefix": sample.answer_prefix}
    uncut = in_tokens(sample, render(sample.prompt, model, **wrap), model.tokenizer)  # type: ignore[arg-type]
    new_tokens = max(map(len, uncut.continuations), default=sample.new_tokens)
    bare = len(token_ids(model.tokenizer, sample.prompt.text))
    overhead = max(0, len(tokenize(uncut.prompt, model)) - bare)
    room = method.context_limit()
    free = None if room is None else room - overhead - new_tokens
    arithmetic = f"{overhead} template + {new_tokens} new tokens"
    if free is not None and free < 1:
        raise Unavailable(
            f"task {task.name}: {arithmetic} leave nothing of the {room} tokens {settings.method} can read"
        )
    limit = settings.max_context
    if limit is None:
        # A habit of the literature cuts; whoever forbids cutting wants what fits, whatever the habit.
        habits = [] if settings.truncate == "none" else [task.max_context(), method.default_max_context()]
        limit = min((n for n in (*habits, free) if n is not None), default=None)
    elif free is not None and min(limit, bare) > free:
        raise UsageError(
            f"task {task.name}: {min(limit, bare)} prompt + {arithmetic} = "
            f"{min(limit, bare) + overhead + new_tokens} > {room}, what {settings.method} can read on "
            f"{settings.model}; lower --max-context to {free}"
        )
    while True:
        cut, truncation = truncate(
            sample.prompt, settings.truncate, limit, model.tokenizer, sample.references
        )
        if cut is sample.prompt:
            asked = uncut
        else:
            asked = in_tokens(sample, render(cut, model, **wrap), model.tokenizer)  # type: ignore[arg-type]
        rendered = asked.prompt
        place = first_place(rendered.context, sample.references)
        ids = tokenize(rendered, model, None if place is None else len(rendered.prefix) + place)
        tokens = len(ids)
        new_tokens = max(map(len, asked.continuations), default=sample.new_tokens)
        excess = 0 if room is None else tokens + new_tokens - room
        if excess <= 0:
            break
        # Joined halves may tokenise a little longer than the limit: cut that much more.
        limit = (bare if limit is None else limit) - excess
        if limit < 1:
            raise UsageError(
                f"task {task.name}: {arithmetic} leave too little of the {room} tokens {settings.method} can read"
            )
    decoding = Decoding(new_tokens, sample.min_new_tokens, stop_ids(sample, model))
    context = hashlib.sha256(array("q", ids.head_ids).tobytes()).hexdigest()[:16]
    return Prepared(
        task,
        sample,
        rendered,
        tokens,
        tokens - ids.context_end,
        context,
        truncation,
        decoding,
        ids.found,
        asked.continuations,
    )


def who_answers(name: str, method: Method, adapter: Path | None, batch_size: int) -> dict[str, Any]:
    """Everything about a method and its model that can change an answer, whoever asks."""
    model = method.model
    return {
        "harness": __version__,
        "method": name,
        "method_version": method.version,
        "options": method.options.model_dump(mode="json"),
        "adapter": None if adapter is None else adapters.fingerprint(adapter),
        "model_hash": model.content_hash,
        "tokenizer_hash": model.tokenizer_hash,
        "context_length": model.context_length,
        "dtype": model.dtype,
        "device": model.device.partition(":")[0],
        "batch_size": batch_size,
    }


def _identity(
    settings: RunSettings, method: Method, tasks: Sequence[Task], adapter: Path | None
) -> dict[str, Any]:
    """Everything that can change an answer.

    ``--limit`` cannot where samples are asked one by one, so raising it continues the same run; in batches
    it decides who is in the last one. Nor can ``--share``, but that too changes who is in a batch.
    """
    return {
        "schema": SCHEMA,
        **who_answers(settings.method, method, adapter, settings.batch_size),
        "limit": settings.limit if settings.batch_size > 1 else None,
        "share": settings.share if settings.batch_size > 1 else None,
        "query_agnostic": method.sees_question and method.withheld,
        "truncate": settings.truncate,
        "max_context": settings.max_context,
        "chat": method.model.chat,
        "trust_remote_code": settings.trust_remote_code,
        "seed": settings.seed,
        "tasks": [
            {
                "name": t.name,
                "version": t.version,
                "preset": t.preset,
                "options": t.options.model_dump(mode="json"),
                **({"facts": facts} if (facts := t.facts()) else {}),
            }
            for t in tasks
        ],
    }
