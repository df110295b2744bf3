"""The contract of a method: everything a long-context method has to say to be run, compared and trusted.

A method reads prompts that may be far longer than the model's window and answers them. It implements
either `compress` and `generate` (so that one compressed context can serve many questions) or, if it cannot
keep the two apart, `compress_and_generate`. It never measures itself: the runner watches the model's forward
passes and holds what it saw against what the method declares.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import UsageError
from ..options import Options as BaseOptions
from .budget import entry_bytes
from .outputs import Decoding, Generation, Scored

if TYPE_CHECKING:
    from ..models.model import LanguageModel
    from .fit import FitReport, Schedule, TrainingData
    from .prompt import Head, Tail, TokenizedPrompt


Announce = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""Shows a long preparation: ``with announce("calibrating") as progress: progress(done, total)``."""


@contextmanager
def _silent(what: str) -> Iterator[Callable[[int, int], None]]:
    yield lambda done, total: None


class Method(ABC):  # noqa: B024  (compress and generate, or both in one, must be there, which ABC cannot say)
    """A way to read more than the model's window. Subclass it, name it in an entry point, and it runs.

    Class attributes
    ----------------
    Options
        A pydantic model; each field becomes a flag of ``harness run``. Ranges and types are checked there.
    version
        Changes whenever answers may change; part of the run's hash.
    sees_question
        True if compression depends on the question. Such methods are never ranked unmarked beside
        query-agnostic ones. One that has `compress` and `generate` as well can also work without
        (``--query-agnostic``).
    trainable
        True if `fit` works.
    FitOptions
        Like `Options`, for ``harness fit``: how to learn, not how to answer.
    needs_data
        False if `fit` has something of its own to learn from when the user gives no data.
    fit_trial
        Values of `FitOptions` under which ``harness check`` fits: a matter of seconds, and saved unrounded.
    lossless
        Options under which nothing is condensed, if there are any: ``harness check`` then expects the answers of the
        model that reads everything. None: a text too short to be condensed has to do.
    aims
        True if it holds an answer to a number of KV entries (``harness run --budget``): it then looks at `budget`.
    remote
        True if answers come from elsewhere (a server): the model given here lends its tokenizer and template, its
        weights are never read, and what was not measured (KV entries, phases, memory) is ``?`` in every table.
    takes_device_map
        False if it cannot work on a model whose layers lie on several devices (``harness run --device-map``).
    family
        None for a method. What stands for a name (``"PRESS"``) if the class is only the door to many methods,
        each asked for as ``<entry point>:<name>`` and made by `variant`.

    Attributes
    ----------
    announce
        Set by the runner: how to show the user that something long is under way in `prepare`.
    query_agnostic
        True once `make_query_agnostic` was called: only `compress` and `generate` are used, so that nothing
        before `generate` can depend on the question.
    budget
        Most KV entries that a sample may hold when its answer begins, question included; None: no such limit.
    """

    Options: ClassVar[type[BaseOptions]] = BaseOptions
    version: ClassVar[str] = "1"
    sees_question: ClassVar[bool] = False
    trainable: ClassVar[bool] = False
    FitOptions: ClassVar[type[BaseOptions]] = BaseOptions
    needs_data: ClassVar[bool] = True
    fit_trial: ClassVar[Mapping[str, Any]] = {}
    lossless: ClassVar[Mapping[str, Any] | None] = None
    aims: ClassVar[bool] = False
    remote: ClassVar[bool] = False
    takes_device_map: ClassVar[bool] = True
    family: ClassVar[str | None] = None

    @classmethod
    def variant(cls, name: str) -> type[Method]:
        """The method behind ``<entry point>:<name>``, with options of its own; only where `family` is set.

        Raises
        ------
        UsageError
            If there is none of that name, or a package it needs is not installed.
        """
        raise NotImplementedError(f"{cls.__name__} is no family of methods")

    @classmethod
    def variants(cls) -> list[str]:
        """Names `variant` is known to take here, sorted; empty if they cannot be known."""
        return []

    @classmethod
    def rival(cls, options: Any) -> str | None:
        """The method that does the same without this one's idea, if there is one.

        A run that is told no task shows both on the same texts. `options` are this class's.
        """
        return None

    def __init__(self, model: LanguageModel, options: BaseOptions) -> None:
        self.model = model
        self.options = options
        self.announce: Announce = _silent
        self.query_agnostic = False
        self.budget: int | None = None

    @property
    def protocol(self) -> str:
        """``"query-aware"`` if compression sees the question, else ``"query-agnostic"``; kept in each record."""
        return "query-aware" if self.sees_question and not self.query_agnostic else "query-agnostic"

    @property
    def two_phase(self) -> bool:
        """Whether the method has `compress` and `generate`, so that a context is compressed without its question."""
        cls = type(self)
        return cls.compress is not Method.compress and cls.generate is not Method.generate

    @property
    def shares_contexts(self) -> bool:
        """Whether one compressed context may serve several questions, each answered as if it were alone."""
        whole = type(self).compress_and_generate is not Method.compress_and_generate
        return self.two_phase and (self.query_agnostic or not whole)

    def rival_options(self) -> Mapping[str, Any]:
        """Options under which the `rival` has as much room as this method has; asked once the adapter is known."""
        return {}

    def make_query_agnostic(self) -> None:
        """From now on work without seeing the question. Raises UsageError if the method cannot."""
        if self.sees_question and not self.two_phase:
            raise UsageError(f"--query-agnostic: {type(self).__name__} cannot compress without the question")
        self.query_agnostic = True

    def aim(self, entries: int) -> None:
        """From now on answers begin from at most so many KV entries (``--budget``); called once an adapter is loaded.

        What cannot be kept to for one sample is kept to as far as it goes: the entries are measured. Raises UsageError
        if the method cannot aim at all, or an option says otherwise.
        """
        if not self.aims:
            raise UsageError(f"--budget: method {type(self).__name__} cannot aim at a number of KV entries")
        self.budget = entries

    def entries_within(self, size: int) -> int:
        """KV entries that `size` bytes hold (``--budget 16MiB``). Must not need the model's weights."""
        return size // entry_bytes(self.model.config, self.model.dtype)

    def prompt_limit(self) -> int | None:
        """Most tokens of a prompt without its answer, where that is another limit than `context_limit`; None: none."""
        return None

    def share_key(self, context: int, reserve: int, decoding: Decoding) -> Hashable:
        """What `compress` makes of a context besides its tokens: equal keys, equal states.

        Two questions share one compressed context only if their keys agree. The default is always right and
        shares among questions of one length; a method whose `compress` looks at less should say so.

        Parameters
        ----------
        context
            Tokens before the question.
        reserve
            Tokens of the question.
        decoding
            How the answer will be decoded.
        """
        return reserve, decoding

    def identity(self) -> Mapping[str, Any]:
        """What decides its answers besides version, options, adapter and model, JSON-ready: part of the run's hash.

        Nothing by default. Must not need the model's weights.
        """
        return {}

    def context_limit(self) -> int | None:
        """Most tokens (prompt and answer together) the method can read; None: no limit.

        Must not need the model's weights: it is asked before they are loaded.
        """
        return self.model.context_length

    def default_max_context(self) -> int | None:
        """Prompt tokens the literature gives this method on this model; None: whatever fits."""
        return None

    def prepare(self, prompts: Sequence[TokenizedPrompt], decoding: Decoding) -> None:  # noqa: B027
        """Called once with everything that will be asked, before the first sample (and its clock) starts.

        For what is shared by all samples and expensive: a calibration, for instance. Optional.
        """

    def tokens_to_process(self, tokens: int, decoding: Decoding) -> int:
        """Positions the model computes to read a prompt of `tokens`: for estimates of time, before it is loaded."""
        return tokens

    def prepares(self, tokens: Sequence[int], decoding: Decoding) -> dict[str, int]:
        """What `prepare` would make anew for prompts of so many `tokens`: positions it computes, by what it is.

        Runs that name the same thing share it, so that an estimate counts it once.
        """
        return {}

    def facts(self) -> dict[str, Any]:
        """JSON-ready facts about this method as configured (trained or not, calibration); kept in run.json.

        ``warning``, if there is one, is a sentence that stands under every table the run is in; None: nothing to say. A
        `trainable` method without this key gets one from the harness where no adapter was loaded.
        """
        return {}

    def facts_of(self, details: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Facts about all finished answers of a run, from their `Generation.details`; laid over `facts`.

        For what a method knows only once it has answered. Also right for a run that was resumed, where the method that
        is there at the end has seen a part of the samples. Nothing by default.
        """
        return {}

    def compress(self, contexts: Sequence[Head], reserve: Sequence[int], decoding: Decoding) -> list[Any]:
        """First half: token ids of each context to one state each, without seeing the question.

        Parameters
        ----------
        contexts
            Token ids of everything before the question, one `Head` a sample; lengths may differ. It knows where the
            instruction ends (``prefix_ids``, ``context_ids``) and its text (``prefix``, ``context``).
        reserve
            For each context the number of question tokens that will follow.
        decoding
            How answers will be decoded: their length is something to leave room for.
        """
        raise NotImplementedError(
            f"{type(self).__name__} neither implements compress nor overrides the whole"
        )

    def generate(
        self, states: Sequence[Any], questions: Sequence[Tail], decoding: Decoding
    ) -> list[Generation]:
        """Second half: answer one question from each state, leaving the state intact.

        Parameters
        ----------
        states
            What `compress` made.
        questions
            Token ids of each question and what follows it, never empty: a `Tail`, which knows its text too.
        decoding
            How to answer.
        """
        raise NotImplementedError(
            f"{type(self).__name__} neither implements generate nor overrides the whole"
        )

    def compress_and_generate(
        self, prompts: Sequence[TokenizedPrompt], decoding: Decoding
    ) -> list[Generation]:
        """Answer a batch of prompts; one `Generation` each, in order. The default is `compress`, then `generate`."""
        from .phases import phase

        with phase("compress"):
            reserve = [len(p.suffix_ids) for p in prompts]
            states = self.compress([p.head_ids for p in prompts], reserve, decoding)
        return self.generate(states, [p.suffix_ids for p in prompts], decoding)

    def run(self, prompts: Sequence[TokenizedPrompt], decoding: Decoding) -> list[Generation]:
        """`compress_and_generate`; query-agnostic: by `compress` and `generate` only. Not to be overridden."""
        apart = self.query_agnostic and self.two_phase
        whole = (Method if apart else type(self)).compress_and_generate
        return whole(self, prompts, decoding)

    def loglikelihood(
        self, prompts: Sequence[TokenizedPrompt], continuations: Sequence[Sequence[Sequence[int]]]
    ) -> list[Scored]:
        """How likely given continuations are, instead of an answer; one `Scored` for each prompt, in order.

        Only for a method that does not decode through `harness.inference.decode`, or knows a better way. For all
        others the engine takes likelihoods: the method generates as always, and the continuation is written down
        in place of what it would have chosen (`harness.inference.likelihood`).

        Parameters
        ----------
        prompts
            As in `compress_and_generate`. The answer they leave room for is the batch's longest continuation.
        continuations
            For each prompt the token ids of one or more continuations, none of them empty.
        """
        raise NotImplementedError(f"{type(self).__name__} does not override loglikelihood")

    @property
    def own_loglikelihood(self) -> bool:
        """Whether the method overrides `loglikelihood`."""
        return type(self).loglikelihood is not Method.loglikelihood

    def check_fit(self, options: Any) -> None:  # noqa: B027
        """Raise UsageError for what `fit` would refuse of `options`; before data and weights are read."""

    def check_sharded(self, options: Any) -> None:
        """Raise UsageError if `fit` needs the base model whole in each process (``harness fit --shard-base``).

        One that does not trains none of the base model's weights, and computes with them by calling its modules: the
        weights themselves read NaN (see `harness.models.sharding`). By default a method says nothing, and is refused.
        """
        raise UsageError(
            f"--shard-base: method {type(self).__name__} does not say that a split base model is enough for it"
        )

    def fit(self, data: TrainingData | None, schedule: Schedule, options: Any) -> FitReport:
        """Train or calibrate the method.

        Parameters
        ----------
        data
            What to learn from; None if the user gave none (`needs_data` says whether that is allowed).
        schedule
            How long, how fast, where checkpoints go, who watches. `harness.training.trainer.train` keeps to it.
        options
            An instance of `FitOptions`.
        """
        raise UsageError(f"method {type(self).__name__} has nothing to fit")

    def save(self, folder: Path, facts: dict[str, Any]) -> None:
        """Write what `fit` learned into `folder`: safetensors and JSON only, `facts` into its card."""
        raise UsageError(f"method {type(self).__name__} has nothing to save")

    def load(self, folder: Path) -> None:
        """Read what `save` wrote. Raises UsageError, naming the file, if it is not for this model.

        Called before the model's weights are loaded, and before `context_limit` is asked.
        """
        raise UsageError(f"method {type(self).__name__} takes no adapter (given {folder})")

    def default_adapter(self) -> Path | None:
        """The folder `load` is given when the user names none: one that ships for this model. None: none."""
        return None
