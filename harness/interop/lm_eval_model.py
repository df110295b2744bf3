"""The other door: any method as lm-eval's model ``harness``.

    harness lm-eval run --model harness --model_args method=two_pass,alpha=3,model=smollm2 --tasks ...

lm-eval asks in whole strings. What it asks is tokenised as its own ``hf`` model does, the last line is taken
for the question, and answers are measured as in ``harness run``. Importing this module imports lm-eval.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval.api.model import LM

from .. import registry
from ..contracts.outputs import Decoding, Generation, Likelihood, Scored
from ..errors import UsageError, unknown_name
from ..evaluation.choices import cut_at, tokens_holding
from ..evaluation.plan import aim, method_facts, method_identity
from ..inference.likelihood import loglikelihood
from ..models import adapters, loading
from ..prompts.rendering import by_last_line, tokenize
from ..results.run_folder import identity_hash
from .lm_eval_measured import Measured
from .lm_eval_protocol import hold
from .lm_eval_requests import Question, Requests

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

NAME = "harness"
VERSION = "1"
"""Goes up whenever the same request may be answered otherwise; part of the key of lm-eval's request cache."""

RULES = ("left", "none")
ARGUMENTS = (
    "method", "model", "adapter", "plugin", "context_length", "max_context", "budget", "protocol", "query_agnostic",
    "truncate", "dtype", "device", "device_map", "batch_size", "max_batch_size", "max_gen_toks", "offline",
    "trust_remote_code", "allow_unused_weights",
)  # fmt: skip


def register() -> None:
    """Make lm-eval know the model `NAME`, unless it does already."""
    import lm_eval.models  # noqa: F401  (fills the registry, which takes names only afterwards)
    from lm_eval.api.registry import model_registry

    if NAME not in model_registry:
        model_registry.register(NAME, target=f"{__name__}:{HarnessLM.__name__}")


class HarnessLM(LM):  # type: ignore[misc]  # lm-eval has no types
    """A method on a model, as lm-eval sees it.

    Parameters
    ----------
    method, model, adapter, context_length, max_context, budget, protocol, query_agnostic
        As the flags of ``harness run``. ``max_context`` counts lm-eval's whole prompt. ``protocol=before`` has each
        prompt compressed for itself, also where lm-eval asks for several continuations of one.
    dtype, device, device_map, trust_remote_code, offline, allow_unused_weights
        As the flags of ``harness run``.
    plugin
        A Python file with methods, as ``harness run --plugin``.
    truncate
        ``"left"``: of a prompt that is too long for the method the last tokens are kept, as lm-eval does;
        ``"none"``: it is refused.
    batch_size
        Requests run together.
    max_gen_toks
        Tokens of an answer where the task names none.
    options
        The method's own options.

    Raises
    ------
    UsageError
        One line for whatever is wrong with these.
    """

    def __init__(
        self,
        method: str = "plain",
        model: str = "smollm2",
        adapter: str | None = None,
        plugin: str | None = None,
        context_length: int | None = None,
        max_context: int | None = None,
        budget: int | str | None = None,
        protocol: str = "auto",
        query_agnostic: bool = False,
        truncate: str = "left",
        dtype: str = "auto",
        device: str | None = None,
        device_map: str | None = None,
        batch_size: int | str | None = 1,
        max_batch_size: int | None = None,
        max_gen_toks: int = 256,
        offline: bool = False,
        trust_remote_code: bool = False,
        allow_unused_weights: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        if plugin is not None:
            registry.register_file(Path(plugin))
        found = registry.method(method)
        known = found.cls.Options.model_fields
        for name in options:
            if name not in known:
                raise unknown_name(f"model argument for method {method}", name, [*ARGUMENTS, *known])
        if truncate not in RULES:
            raise unknown_name("truncation rule of this door", truncate, RULES)
        if not str(batch_size).isdecimal() or int(str(batch_size)) < 1:
            raise UsageError(f"batch_size={batch_size}: give a number of requests, at least 1")
        self.batch_size = int(str(batch_size))
        self.max_gen_toks = int(max_gen_toks)
        self.truncate = truncate
        self.language_model = loading.load(
            model,
            context_length=context_length,
            dtype=dtype,
            device="auto" if device is None or (device_map and device.startswith("cuda")) else device,
            device_map=device_map,
            offline=offline,
            trust_remote_code=trust_remote_code,
            allow_unused_weights=allow_unused_weights,
        )
        self.tokenizer = self.language_model.tokenizer
        self._device = self.language_model.device
        self.method = found.cls(self.language_model, found.cls.Options.parse(options, f"method {method}"))
        if device_map is not None and not self.method.takes_device_map:
            raise UsageError(f"device_map: method {method} needs the whole model on one device")
        asked = hold(self.method, method, protocol, query_agnostic, max_context, budget)
        folder = adapters.resolve(None if adapter is None else Path(adapter), self.method.default_adapter)
        if folder is not None:
            self.method.load(folder)
        if budget is not None:
            aim(self.method, budget)
        self.identity = {**self._identity(method, found.file_hash, folder), **asked}
        if allow_unused_weights:
            self.identity["allow_unused_weights"] = True
        self.measured = Measured()
        self.requests = Requests(
            self.method, self.truncate, self.batch_size, self.measured, asked.get("max_context")
        )
        self._apart = protocol == "before"

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None
    ) -> HarnessLM:
        """As lm-eval builds a model; of what stands in both, the model's own arguments count.

        lm-eval's command line names the device ``cuda:0`` where the user named none.
        """
        given = {k: v for k, v in (additional_config or {}).items() if v is not None}
        if str(given.get("device", "")).startswith("cuda") and not _cuda():
            del given["device"]
        return cls(**{**given, **arg_dict})

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: dict[str, Any] | None = None
    ) -> HarnessLM:
        """The same from ``name=value,name=value``."""
        from lm_eval.utils import simple_parse_args_string

        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    def _identity(self, method: str, file_hash: str | None, adapter: Path | None) -> dict[str, Any]:
        """Everything but the request that can change an answer."""
        return {
            "door": VERSION,
            **method_identity(method, self.method, adapter, self.batch_size),
            "method_file": file_hash,
            "truncate": self.truncate,
            "max_gen_toks": self.max_gen_toks,
        }

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log-likelihood, whether greedy) of each request's continuation; a shared context is read once."""
        prefix = self.prefix_token_id
        pairs = [self.requests.encode(request.args[0], request.args[1], prefix) for request in requests]
        questions: dict[tuple[Any, ...], Question] = {}
        for place, (prompt, continuation) in enumerate(pairs):
            prompt = self.requests.fitted(prompt, len(continuation))
            one = place if self._apart else None
            question = questions.setdefault(
                (prompt.ids, prompt.context_end, one), Question(prompt, (), [], Decoding(1))
            )
            question.continuations += (continuation,)
            question.places.append(place)
            question.decoding = Decoding(max(len(c) for c in question.continuations))
        answers: list[tuple[float, bool]] = [(0.0, False)] * len(requests)

        def keep(question: Question, scored: Scored) -> None:
            for place, found in zip(question.places, scored.likelihoods):
                answers[place] = _pair(found)
                self.cache_hook.add_partial("loglikelihood", requests[place].args, answers[place])

        def score(batch: Sequence[Question]) -> list[Scored]:
            return loglikelihood(self.method, [q.prompt for q in batch], [q.continuations for q in batch])

        self.requests.run(list(questions.values()), score, keep, disable_tqdm)
        return answers

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The greedy answer to each request, cut at its stop strings."""
        from lm_eval.models.utils import normalize_gen_kwargs

        questions, stops = [], []
        for place, request in enumerate(requests):
            context, wanted = request.args[:2]
            known: dict[str, Any] = dict(normalize_gen_kwargs(wanted, self.max_gen_toks))
            if known.get("do_sample"):
                self.measured.say("the task asks for sampling; answers are greedy")
            until = tuple(str(s) for s in known["until"])
            limit = int(known["max_gen_toks"])
            prompt = self.requests.fitted(tokenize(by_last_line(context), self.language_model), limit)
            stop = tokens_holding(self.language_model, until)
            questions.append(Question(prompt, (), [place], Decoding(limit, stop_ids=stop)))
            stops.append(until)
        answers = [""] * len(requests)

        def keep(question: Question, generation: Generation) -> None:
            [place] = question.places
            answers[place] = cut_at(generation.text, stops[place])
            self.cache_hook.add_partial("generate_until", requests[place].args, answers[place])

        def generate(batch: Sequence[Question]) -> list[Generation]:
            return self.method.run([q.prompt for q in batch], batch[0].decoding)

        self.requests.run(questions, generate, keep, disable_tqdm)
        return answers

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Refused: the likelihood of a whole text leaves no context that could be compressed."""
        raise UsageError(
            "lm-eval asks for the likelihood of whole texts (loglikelihood_rolling), which has no context to "
            "compress; choose tasks that ask for continuations, choices or answers"
        )

    @property
    def max_length(self) -> int:
        """Tokens the method reads, prompt and answer together."""
        return self.method.context_limit() or self.language_model.context_length

    @property
    def prefix_token_id(self) -> int:
        """What an empty context is replaced by: BOS, or the end token where there is none."""
        bos = self.tokenizer.bos_token_id
        return int(self.tokenizer.eos_token_id if bos is None else bos)

    @property
    def tokenizer_name(self) -> str:
        """Tells lm-eval's cache of prompts one tokenizer from another."""
        return f"harness-{self.language_model.tokenizer_hash[:16]}"

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template's text, for lm-eval's record; None if it is not asked for."""
        return str(self.tokenizer.get_chat_template()) if chat_template else None

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation as the model's own template writes it."""
        if not self.tokenizer.chat_template:
            raise UsageError(f"model {self.language_model.name} has no chat template; leave it out")
        return str(
            self.tokenizer.apply_chat_template(
                chat_history,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
                chat_template=str(self.tokenizer.get_chat_template()).removeprefix("\ufeff"),
            )
        )

    def set_cache_hook(self, cache_hook: Any) -> None:
        """Give lm-eval's request cache a table of our own: its keys name the request, but not who answered."""
        super().set_cache_hook(cache_hook)
        store = cache_hook.dbdict
        if store is None:
            return
        if not hasattr(store, "tablename"):
            raise UsageError("this version of lm-eval caches answers in another way; do without --use_cache")
        table = f"harness_{identity_hash(self.identity)}"
        type(store)(store.filename, tablename=table, autocommit=True).close()  # makes the table
        store.tablename = table

    def get_model_info(self) -> dict[str, Any]:
        """For lm-eval's results: who answered, and what was measured of the answers given now."""
        return {
            "harness": {
                **self.identity,
                "identity_hash": identity_hash(self.identity),
                "sees_question": self.method.sees_question,
                "model": self.language_model.facts(),
                "method_facts": method_facts(self.method, self.identity["adapter"] is not None),
                "measured": self.measured.facts(),
            }
        }


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _pair(found: Likelihood) -> tuple[float, bool]:
    return found.logprob, found.greedy
