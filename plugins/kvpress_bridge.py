"""`kvpress:<Press>`: every press of an installed kvpress as a method.

Source: https://github.com/NVIDIA/kvpress (Devoto et al., "Expected Attention", https://arxiv.org/abs/2510.00636,
presents the library; each press names its own paper). A press compresses the KV cache of the context while it is
prefilled and never sees the question, as in kvpress's own pipeline. Whether memory is really saved depends on the
press: some only hide entries. What the cache holds is measured; the ratio a press claims stands beside it.
"""

from __future__ import annotations

import importlib.util
import logging
import re
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from harness import Decoding, Generation, Method, UsageError
from harness.errors import unknown_name
from harness.models import attention as harness_attention

if TYPE_CHECKING:
    from harness.contracts.prompt import TokenizedPrompt
    from harness.inference.kvcache import KVCache
    from harness.models.model import LanguageModel

PACKAGE = "kvpress"
PIP = "pip install 'long-context-harness[kvpress]'"
ATTENTION = "harness_kvpress"
"""Name under which `attend` is known to transformers."""

REFUSED = {
    "DecodingPress": "it compresses while answering, not the context",
    "CAMPress": "it compresses while answering, not the context",
    "CompressionRatioDecodingPress": "it compresses while answering, not the context",
    "PrefillDecodingPress": "it compresses while answering too",
    "FinchPress": "it reads the question with the context and adds a token to model and tokenizer",
    "RestoreKVPress": "it adds trained adapters to the model",
    "ComposedPress": "it needs other presses with options of their own",
}
ABSTRACT = ("BasePress", "ScorerPress")

CLAIM_TOLERANCE = 0.05
"""Share of a context's KV bytes by which what a press frees may fall short of what it claims, unremarked."""


class KvPress(Method):
    """Any press of an installed kvpress, `kvpress:SnapKVPress`: bytes measured beside the ratio it claims."""

    family: ClassVar[str | None] = "PRESS"

    @classmethod
    def variant(cls, name: str) -> type[Method]:
        """The press of that name as a method."""
        return _method(name)

    @classmethod
    def variants(cls) -> list[str]:
        """Presses of the installed kvpress; none without it. Read from its sources: importing takes seconds."""
        import ast
        from pathlib import Path

        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or spec.origin is None:
            return []
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
        names = {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
        return sorted(n for n in names if n.endswith("Press") and n not in (*REFUSED, *ABSTRACT))


@cache
def _method(name: str) -> type[Method]:
    from ._kvpress_options import press_options

    kvpress = installed(name)
    press = getattr(kvpress, name, None)
    if not (isinstance(press, type) and issubclass(press, kvpress.BasePress)) or name in ABSTRACT:
        raise unknown_name("press of kvpress", name, KvPress.variants())
    for base in press.__mro__:
        if base.__name__ in REFUSED:
            raise UsageError(f"kvpress:{name} cannot be run: {REFUSED[base.__name__]}")
    doc = next((line.strip() for line in (press.__doc__ or "").splitlines() if line.strip()), name)
    return type(
        name,
        (PressMethod,),
        {
            "__doc__": doc,
            "__module__": __name__,
            "Options": press_options(press),
            "press": press,
            "version": f"{PressMethod.version}+kvpress{_version()}",
        },
    )


def installed(name: str) -> Any:
    """The kvpress package. Raises UsageError if it is not there, or not with this transformers."""
    from importlib import metadata

    if importlib.util.find_spec(PACKAGE) is None:
        raise UsageError(f"kvpress:{name} needs kvpress: {PIP}")
    from transformers.utils.versions import require_version

    for wanted in metadata.requires(PACKAGE) or ():
        if re.match(r"transformers\b", wanted):
            try:
                require_version(wanted)
            except ImportError as error:
                raise UsageError(
                    f"kvpress {_version()} works with {wanted}, not {metadata.version('transformers')}; "
                    f"in an environment of its own: {PIP}"
                ) from error
    try:
        import kvpress
    except Exception as error:
        raise UsageError(
            f"kvpress {_version()} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    # kvpress wraps every attention function there is; what the other methods attend by stays as it was.
    ALL_ATTENTION_FUNCTIONS[harness_attention.ATTENTION] = harness_attention.attend
    logging.getLogger(PACKAGE).setLevel(logging.ERROR)
    return kvpress


def _version() -> str:
    from importlib import metadata

    return metadata.version(PACKAGE)


@dataclass(frozen=True)
class Pressed:
    """A context after a press.

    Attributes
    ----------
    cache
        What is left of it; layers may hold different numbers of entries. Keys are turned so that the next token
        has the rank after the first layer's last entry and all distances are those of the text.
    hidden
        For each layer the entries hidden from attention, as kvpress keeps them; None: none.
    read
        Tokens of the context.
    details
        What the press claims and what it freed.
    """

    cache: KVCache
    hidden: tuple[Any, ...]
    read: int
    details: dict[str, Any] = field(default_factory=dict)


class PressMethod(Method):
    """A press as a method; `KvPress.variant` makes a subclass of it for each.

    The context is prefilled under the press, alone, then each question is read and answered from what is left,
    at the positions it has in the text. Contexts of a batch are taken one by one: presses know no padding. Each is
    compressed by a press of its own, random draws from the same seed.
    """

    press: ClassVar[type]

    def __init__(self, model: LanguageModel, options: Any) -> None:
        super().__init__(model, options)
        self._seen: list[tuple[float, float]] = []

    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"press": self.press.__name__, "kvpress": _version()}
        if not self._seen:
            return facts
        claimed, freed = (sum(part) / len(self._seen) for part in zip(*self._seen))
        warning = None
        if claimed - freed > CLAIM_TOLERANCE:
            warning = (
                f"{self.press.__name__} claims to remove {claimed:.0%} of the context's KV cache and freed {freed:.0%} "
                "of its bytes: the rest is masked or zeroed, not gone"
            )
        elif claimed == 0:
            warning = f"{self.press.__name__} removed nothing (its own ratio is 0): this is full attention"
        return {**facts, "claimed_ratio": claimed, "freed_ratio": freed, "warning": warning}

    def prepare(self, prompts: Sequence[TokenizedPrompt], decoding: Decoding) -> None:
        """Raise UsageError for a press that has nothing for this model: trained filters, gates, budgets."""
        network = self.model.network
        try:
            with untouched(network):
                self._make().post_init_from_model(network)
        except Exception as error:
            line = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UsageError(
                f"kvpress:{self.press.__name__} cannot be set up for {self.model.name}: {line}"
            ) from error

    def _make(self) -> Any:
        from ._kvpress_options import make_press

        return make_press(self.press, self.options.model_dump())

    def share_key(self, context: int, reserve: int, decoding: Decoding) -> Hashable:
        """What is left of a context depends on the context alone."""
        return ()

    def compress(
        self, contexts: Sequence[Sequence[int]], reserve: Sequence[int], decoding: Decoding
    ) -> list[Pressed]:
        """Prefill each context under the press; what follows plays no part."""
        return [self._press(context) for context in contexts]

    def generate(
        self, states: Sequence[Pressed], questions: Sequence[Sequence[int]], decoding: Decoding
    ) -> list[Generation]:
        return [self._answer(state, question, decoding) for state, question in zip(states, questions)]

    def _press(self, context: Sequence[int]) -> Pressed:
        import torch
        from transformers import DynamicCache

        from harness.inference.kvcache import KVCache

        kvpress, network = installed(self.press.__name__), self.model.network
        if not context:
            return Pressed(KVCache(), (), 0)
        press = self._make()
        eager = isinstance(getattr(press, "press", press), kvpress.ObservedAttentionPress)
        devices = [network.device] if network.device.type == "cuda" else []
        with untouched(network), attention(network, "eager" if eager else "sdpa"), torch.no_grad():
            with torch.random.fork_rng(devices):
                torch.manual_seed(0)
                past = DynamicCache()
                with press(network):
                    network.model(
                        input_ids=torch.tensor([list(context)], device=network.device), past_key_values=past
                    )
            hidden = tuple(getattr(x.self_attn, "masked_key_indices", None) for x in network.model.layers)
            rerotated = isinstance(press, kvpress.KeyRerotationPress)
            cache = _placed(network, past, None if rerotated else len(context))
        return Pressed(cache, hidden, len(context), self._details(press, past, hidden, len(context)))

    def _details(self, press: Any, past: Any, hidden: Sequence[Any], tokens: int) -> dict[str, Any]:
        held = [layer.keys.shape[2] for layer in past.layers]
        size = sum(layer.keys.nbytes + layer.values.nbytes for layer in past.layers)
        full = sum((x.keys.nbytes + x.values.nbytes) / n * tokens for x, n in zip(past.layers, held))
        masked = sum(len(indices[0]) for indices in hidden if indices is not None)
        pairs = sum(layer.keys.shape[1] * n for layer, n in zip(past.layers, held))
        try:
            claimed = press.compression_ratio
        except (AttributeError, AssertionError, ValueError):
            claimed = None
        freed = 1 - size / full
        if claimed is not None:
            self._seen.append((float(claimed), freed))
        return {
            "nominal_ratio": None if claimed is None else float(claimed),
            "freed_ratio": freed,
            "hidden_share": masked / pairs,
            **({"entries_by_layer": held} if len(set(held)) > 1 else {}),
        }

    def _answer(self, state: Pressed, question: Sequence[int], decoding: Decoding) -> Generation:
        import torch

        from harness.contracts.phases import phase
        from harness.inference.decoding import decode
        from harness.inference.forward import feed
        from harness.inference.stopping import stop_reason

        network, cache = self.model.network, state.cache
        _register()
        with untouched(network), attention(network, ATTENTION):
            for layer, indices in zip(network.model.layers, state.hidden):
                layer.self_attn.masked_key_indices = indices
            with phase("prefill"), torch.no_grad():
                if len(question) > 1:
                    [cache], _ = feed(network, [cache], [question[:-1]])
            with phase("decode"):
                _, [tokens] = decode(self.model, [cache], [question[-1]], decoding)
        held = [keys.shape[1] for keys in cache.keys]
        return Generation(
            text=self.model.tokenizer.decode(tokens, skip_special_tokens=True),
            token_ids=tokens,
            stop_reason=stop_reason(self.model, decoding, tokens),
            prompt_tokens=state.read + len(question),
            kv_tokens=round(sum(held) / len(held)) if held else 0,
            details=dict(state.details),
        )


def _placed(network: Any, past: Any, tokens: int | None) -> KVCache:
    """A pressed cache whose next rank stands for position `tokens` of the text (None: for that rank itself).

    Kept keys have the rotation of their place in the text, and the question goes on at its own, behind gaps.
    Rotary positions are relative: all keys turned back alike, by the entries missing in the first layer, give
    the same attention from consecutive ranks.
    """
    import torch

    from harness.inference.forward import moved
    from harness.inference.kvcache import KVCache

    rows = [(layer.keys[0], layer.values[0]) for layer in past.layers]
    shift = 0 if tokens is None else rows[0][0].shape[1] - tokens
    if shift:
        rows = [
            (moved(network, KVCache((k,), (v,)), torch.full((k.shape[1],), shift)).keys[0], v)
            for k, v in rows
        ]
    return KVCache(tuple(k for k, _ in rows), tuple(v for _, v in rows))


def attend(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, dropout: float = 0.0, **kwargs: Any
) -> tuple[Any, None]:
    """Attention of one unpadded sequence to caches whose layers differ in length, entries kvpress hides hidden.

    kvpress itself hides an entry by a made-up key that no query attends to, and fails where there is none (long
    questions, few channels a head). A mask for each head gives the same attention, always.

    Parameters
    ----------
    module
        The layer's attention module; ``masked_key_indices`` are the hidden entries: their places in the batch, KV
        heads and ranks.
    query
        ``[1, heads, queries, head_dim]``, the newest positions.
    key, value
        ``[1, kv_heads, keys, head_dim]``, as many keys as this layer holds.
    attention_mask
        Not used: it is as wide as the first layer.
    """
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    new, held, mask = query.shape[2], key.shape[2], None
    if 1 < new < held:
        mask = torch.ones(new, held, dtype=torch.bool, device=query.device).tril(held - new)[None, None]
    if (hidden := getattr(module, "masked_key_indices", None)) is not None:
        seen = torch.ones(key.shape[1], 1, held, dtype=torch.bool, device=query.device)
        seen[hidden[1].to(seen.device), 0, hidden[2].to(seen.device)] = False
        seen = seen.repeat_interleave(query.shape[1] // key.shape[1], dim=0)[None]
        mask = seen if mask is None else seen & mask
    found: tuple[Any, None] = sdpa_attention_forward(module, query, key, value, mask, dropout, **kwargs)
    return found


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(ATTENTION, attend)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)


@contextmanager
def attention(network: Any, name: str) -> Iterator[None]:
    """Let the model attend by another of transformers' functions; afterwards by its own again."""
    own = network.config._attn_implementation
    network.config._attn_implementation = name
    try:
        yield
    finally:
        network.config._attn_implementation = own


@contextmanager
def untouched(network: Any) -> Iterator[None]:
    """Take from every module of the model what the block hung on it: hooks, attributes, methods, submodules."""
    before = [
        (module, dict(vars(module)), {k: dict(v) for k, v in vars(module).items() if isinstance(v, dict)})
        for module in network.modules()
    ]
    try:
        yield
    finally:
        for module, attributes, tables in before:
            vars(module).clear()
            vars(module).update(attributes)
            for name, table in tables.items():  # the very tables: hooks that others hung there refer to them
                attributes[name].clear()
                attributes[name].update(table)
