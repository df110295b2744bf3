"""A check of where the entries of the cache stand, seen from the first token of the answer (RoPE)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from ._places import Places, placed
from ._results import Failed, NotApplicable
from ._trial import Trial
from ._values import own_values

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LENGTH = 2000
"""Most tokens of the text that is asked about."""

LOOKED_AT = 96
"""Entries of each head: half of them the last ones, the others from everywhere."""

CLOSE = 1e-3
"""A key is one that was computed, at a position, if they differ by no more than this share of its length, or eight
rounding errors."""

ROOM = 64
"""Positions tried beyond the text's own: keys that were moved too far stand there."""


@dataclass
class Keys:
    """What the model computed while one prompt was answered.

    Attributes
    ----------
    before
        For each layer keys before rotation, a tensor ``[tokens, kv_heads, head_dim]`` each pass.
    ids
        For each layer the token ids those keys belong to, a list each pass; -1 where what was read had none.
    asked
        Position of the token of each pass of a single token since the answer began.
    values
        For each layer values as computed, like `before`.
    cached
        For each layer the keys ``[kv_heads, entries, head_dim]`` the answer began from.
    beside
        For each layer the values beside those keys, in the same shape.
    turns
        What keys were multiplied with at each position then, complex ``[positions, head_dim / 2]``.
    """

    before: dict[int, list[Tensor]] = field(default_factory=dict)
    ids: dict[int, list[list[int]]] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)
    values: dict[int, list[Tensor]] = field(default_factory=dict)
    cached: list[Tensor] = field(default_factory=list)
    beside: list[Tensor] = field(default_factory=list)
    turns: Tensor | None = None


class Entry(NamedTuple):
    """An entry of a head whose key was computed.

    Attributes
    ----------
    position
        Where it stands.
    place
        Its token's place in the prompt, if known.
    rank
        Where it lies in the cache.
    alike
        Which of the keys computed in the layer it may be.
    """

    position: int
    place: int | None
    rank: int
    alike: list[int]


def positions(trial: Trial) -> str:
    """Each entry stands before the answer, no farther from it than its token does in the text, with its own value."""
    places = Places(trial.model, min(LENGTH, len(trial.prompts[0])), trial.questions[0])
    keys = _computed(trial, places)
    if not keys.cached or not keys.before:
        raise NotApplicable("no cache was seen where the answer began, or the model has no keys to turn back")
    _one_by_one(keys.asked)
    told = total = 0
    for layer, cached in enumerate(keys.cached):
        for head in range(cached.shape[0]):
            found = _placed(places, keys, layer, head)
            told, total = told + len(found), total + min(LOOKED_AT, cached.shape[1])
            _judge(found, keys.asked[0], len(places.prompt), len(places.prompt.suffix_ids), layer)
            _apart(found, keys.asked[0], len(places.prompt.suffix_ids), layer)
            if sum(map(len, keys.values.get(layer, ()))) == sum(map(len, keys.before.get(layer, ()))):
                own_values(keys.beside[layer], keys.values, layer, head, {e.rank: e.alike for e in found})
    if not told:
        raise NotApplicable("no entry is the key of a token as the model computes it")
    return f"{told} of {total} entries turned back to where they stand"


def _one_by_one(asked: Sequence[int]) -> None:
    steps = {b - a for a, b in pairwise(asked)}
    if steps - {1}:
        raise Failed(
            f"tokens of the answer were read at positions {', '.join(map(str, asked[:5]))}; let each stand one behind "
            "the token before it"
        )


def _computed(trial: Trial, places: Places) -> Keys:
    found = Keys()
    network: Any = trial.model.network
    with _noting(network, found, len(places.prompt)):
        trial.alone(places.prompt)
    return found


@contextmanager
def _noting(network: Any, found: Keys, most: int) -> Iterator[None]:
    """Note keys before rotation, what passes read, and the cache the answer to `most` tokens begins from."""
    now: dict[str, Any] = {"width": 0}

    def begin(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tokens = args[0] if args else kwargs.get("input_ids")
        given = kwargs.get("inputs_embeds") if tokens is None else tokens
        cache = kwargs.get("past_key_values")
        before, now["width"] = now["width"], 0 if given is None else int(given.shape[1])
        now["single"] = now["width"] == 1 and cache is not None
        now["ids"] = [] if tokens is None else tokens.reshape(-1, tokens.shape[-1]).tolist()
        if now["single"] and before != 1:  # an answer begins; what began before was a draft or a probe
            found.asked.clear()
            layers = getattr(cache, "layers", ())
            if any(layer.keys is not None and layer.keys.ndim != 4 for layer in layers):
                raise NotApplicable("the cache packs its keys: where they stand cannot be seen")
            found.cached = [layer.keys[0].clone() for layer in layers if layer.keys is not None]
            found.beside = [layer.values[0].clone() for layer in layers if layer.keys is not None]

    def turned(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        where = kwargs.get("position_ids")
        if where is None or not now.get("single"):
            return
        found.asked.append(int(where.reshape(-1)[-1]))
        if len(found.asked) == 1:  # as the method has it now: it may turn otherwise than the model
            found.turns = _turns(
                network.model.rotary_emb, max(most, found.asked[0], len(found.cached[0][0])) + ROOM
            )

    if getattr(network.model, "rotary_emb", None) is None:
        raise NotApplicable("the model does not turn its keys")
    with ExitStack() as hooks:
        hooks.callback(network.model.register_forward_pre_hook(begin, with_kwargs=True).remove)
        hooks.callback(network.model.layers[0].register_forward_pre_hook(turned, with_kwargs=True).remove)
        for index, layer in enumerate(network.model.layers):
            _note_layer(hooks, getattr(layer, "self_attn", None), index, found, now)
        yield


def _note_layer(hooks: ExitStack, attention: Any, index: int, found: Keys, now: dict[str, Any]) -> None:
    """Note keys before rotation and values of one layer while `hooks` is open; `now` holds the ids of the pass."""
    last = getattr(attention, "k_norm", None) or getattr(attention, "k_proj", None)
    if last is None:
        return
    size = attention.head_dim

    def note(module: Any, args: Any, keys: Tensor) -> None:
        rows, width = keys.shape[:2]
        read = now.get("ids") or []
        known = len(read) == rows and all(len(row) == width for row in read)
        found.before.setdefault(index, []).append(by_head(keys))
        found.ids.setdefault(index, []).extend(read if known else [[-1] * width] * rows)

    def beside(module: Any, args: Any, values: Tensor) -> None:
        found.values.setdefault(index, []).append(by_head(values))

    def by_head(computed: Tensor) -> Tensor:
        return computed.detach().float().reshape(computed.shape[0] * computed.shape[1], -1, size)

    hooks.callback(last.register_forward_hook(note).remove)
    other = getattr(attention, "v_norm", None) or getattr(attention, "v_proj", None)
    if other is not None:
        hooks.callback(other.register_forward_hook(beside).remove)


def _placed(places: Places, keys: Keys, layer: int, head: int) -> list[Entry]:
    """Of the entries looked at those that can be told."""
    import torch

    cached = keys.cached[layer][head].float()
    close = max(CLOSE, 8 * torch.finfo(keys.cached[layer].dtype).eps)
    count = len(cached)
    last = max(0, count - LOOKED_AT // 2)
    looked = sorted({*range(0, last, max(1, 2 * last // LOOKED_AT)), *range(last, count)})[-LOOKED_AT:]
    entries = _complex(cached[looked])
    if layer not in keys.before or not looked:
        return []
    plain = _complex(torch.cat(keys.before[layer])[:, head])
    turns = keys.turns
    if turns is None or turns.shape[-1] != entries.shape[-1]:
        return []  # only a part of each key is turned
    # The length of each pair of a key is what rotation leaves alone: it says which key an entry is.
    lengths = entries.abs(), plain.abs() * turns[0].abs()
    apart = torch.cdist(*lengths, compute_mode="donot_use_mm_for_euclid_dist")
    size = entries.abs().norm(dim=-1)
    nearest = apart.argmin(dim=-1)
    fits = (entries * plain[nearest].conj()) @ turns.conj().T
    position = fits.real.argmax(dim=-1)
    rest_of = (plain[nearest] * turns[position] - entries).abs().norm(dim=-1)
    where = placed(places.prompt, keys.ids[layer])
    found: list[Entry] = []
    for row in range(len(looked)):
        if float(rest_of[row]) <= close * float(size[row]):
            alike = (apart[row] <= close / 10 * size[row]).nonzero().flatten().tolist()
            known = {where.get(index) for index in alike}
            place = known.pop() if len(known) == 1 else None
            found.append(Entry(int(position[row]), place, looked[row], alike))
    return found


def _turns(rotary: Any, most: int) -> Tensor:
    import torch

    with torch.no_grad():
        cos, sin = rotary(torch.zeros(1), torch.arange(most)[None])
    half = cos.shape[-1] // 2
    return torch.complex(
        cos[0, :, :half], sin[0, :, :half]
    )  # YaRN's factor included: cached keys have it too


def _complex(keys: Tensor) -> torch.Tensor:
    """Half-split keys ``[…, head_dim]`` as complex numbers ``[…, head_dim / 2]``: rotation is a factor then."""
    import torch

    half = keys.shape[-1] // 2
    return torch.complex(keys[..., :half].contiguous(), keys[..., half:].contiguous())


def _judge(found: Sequence[Entry], asked: int, tokens: int, question: int, layer: int) -> None:
    for position, place, *_ in found:
        if position >= asked:
            raise Failed(
                f"in layer {layer} an entry stands at position {position}, but the answer begins at {asked}: behind or "
                "beside it; turn keys when entries are dropped (harness.inference.forward.moved), or begin the answer "
                "at the position that follows the text"
            )
        if place is None:
            continue
        far, due = asked - position, tokens - 1 - place
        if far > due or (due < question and far != due):
            raise Failed(
                f"in layer {layer} an entry stands {far} positions before the answer, its token {due} tokens before "
                "it; turn keys to the positions they are read at, and let the question follow what is kept"
            )


def _apart(found: Sequence[Entry], asked: int, question: int, layer: int) -> None:
    """Memory of no single token stands before the question, where the question is there as a whole."""
    begins = asked - question + 1
    last = [entry.position for entry in found[-(question - 1) :]]
    if question < 2 or last != list(range(begins, asked)):
        return
    for position, place, *_ in found[: -(question - 1)]:
        if place is None and position >= begins:
            raise Failed(
                f"in layer {layer} an entry stands at position {position}, among the question's, which begin at "
                f"{begins}; turn keys to the place that is left for them"
            )
