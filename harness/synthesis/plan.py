"""What a synthesis will generate and assemble, checked before the model is loaded."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import registry
from ..contracts.recipe import LengthRange, Recipe, share
from ..errors import UsageError
from . import data_card
from .generators import Generator, ModelGenerator
from .inputs import parse_length, read_nouns
from .pool import Pool, read_identity
from .settings import SynthPlan

if TYPE_CHECKING:
    from ..models.model import LanguageModel
    from .settings import SynthSettings


DATA = "data.jsonl"


FORMAT = 1


def plan_synthesis(settings: SynthSettings, load: Callable[..., LanguageModel] | None = None) -> SynthPlan:
    """Check everything that can be checked before a token is generated.

    `load` is called as `harness.models.loading.load` is, and stands in its place.

    Raises
    ------
    UsageError
        One line for whichever does not hold.
    """
    from ..models import loading
    from .endpoint import EndpointGenerator

    cls = registry.recipe(settings.recipe).cls
    recipe = cls(cls.Options.parse(settings.options, f"recipe {settings.recipe}"))
    length = parse_length(settings.length) if settings.length else recipe.default_range
    for name, value in (
        ("count", settings.count),
        ("items", settings.items),
        ("batch-size", settings.batch_size),
    ):
        if value is not None and value < 1:
            raise UsageError(f"--{name} {value}: must be at least 1")
    if not -(2**63) <= settings.seed < 2**63:
        raise UsageError(f"--seed {settings.seed}: must fit in 64 bits")
    if settings.generator_model and not settings.generator:
        raise UsageError("--generator-model names a model of --generator; give its address too")
    nouns = read_nouns(settings.nouns)
    model = (load or loading.load)(
        settings.model,
        dtype=settings.dtype,
        device=settings.device,
        offline=settings.offline,
        allow_unused_weights=settings.allow_unused_weights,
    )
    generator: Generator
    if settings.generator:
        name = settings.generator_model or settings.model
        generator = EndpointGenerator(settings.generator, name, settings.batch_size)
    else:
        generator = ModelGenerator(model, settings.batch_size)
    return assemble_plan(settings, recipe, model, generator, nouns, length)


def assemble_plan(
    settings: SynthSettings,
    recipe: Recipe,
    model: LanguageModel,
    generator: Generator,
    nouns: list[str],
    length: LengthRange | None,
) -> SynthPlan:
    """The plan for a generator that is there already; raises UsageError if the pool is somebody else's."""
    count = settings.count or sum(recipe.tasks.values())
    folder = settings.pool or settings.out / "pool"
    found = read_identity(folder)
    if settings.pool and settings.items is None and found is None and settings.pool.exists():
        raise UsageError(f"--pool {folder}: no pool there; give --items to make one in that folder")
    # Another seed may assemble other samples from a pool, but its items go on from its own seed.
    seed = int(found["seed"]) if found and settings.pool else settings.seed
    _check_requests(settings.recipe, recipe, generator)
    sources = recipe.sources()
    default = 0 if found else recipe.items(count, len(nouns))
    wanted = max(settings.items or default, int(found["items"]) if found else 0)
    identity = {
        "format": FORMAT,
        "recipe": settings.recipe,
        "recipe_version": recipe.version,
        "options": recipe.options.model_dump(mode="json", exclude=set(sources)),
        **({"sources": sources} if sources else {}),
        "generator": generator.facts(),
        "tokenizer_hash": model.tokenizer_hash,
        "model": settings.generator_model if settings.generator else model.name,
        **(
            {"allow_unused_weights": True} if settings.allow_unused_weights and not settings.generator else {}
        ),
        "nouns": len(nouns),
        "nouns_sha256": data_card.digest(nouns),
        "seed": seed,
        "items": wanted,
    }
    if found is not None:
        _check_pool(folder, found, identity)
    order = list(nouns)
    random.Random(f"{seed}-nouns").shuffle(order)
    pool = Pool(folder, order, model.tokenizer)
    stages = recipe.stages(wanted, seed)
    made = SynthPlan(
        settings, recipe, model, generator, pool, identity, stages, share(count, recipe.tasks), length
    )
    check_out(settings.out, request_of(made))
    return made


def request_of(plan: SynthPlan) -> dict[str, Any]:
    """Everything that decides the bytes of the data file."""
    return {
        "pool": plan.identity,
        "counts": plan.counts,
        "length": [plan.length.low, plan.length.high] if plan.length else None,
        "seed": plan.settings.seed,
    }


def check_out(out: Path, request: Mapping[str, Any]) -> None:
    """Refuse a folder with other data: nothing is written over."""
    old = data_card.read(out)
    if (out / DATA).exists() and (old is None or old.get("request") != request):
        raise UsageError(
            f"{out} holds another data set; choose another --out (and this pool: --pool {out}/pool)"
        )


def _check_pool(folder: Path, found: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    for key, what in (
        ("format", "by another version of the harness"),
        ("recipe", "by recipe {}"),
        ("recipe_version", "by version {} of the recipe"),
        ("tokenizer_hash", "for another tokenizer"),
        ("nouns_sha256", "from another list of nouns"),
        ("seed", "with seed {}"),
        ("sources", "from {}"),
        ("options", "with options {}"),
    ):
        if found.get(key) != identity.get(key):
            value = found.get(key)
            said = what.format(
                _other(value, identity.get("sources", {})) if key == "sources" else json.dumps(value)
            )
            raise UsageError(f"the pool {folder} was made {said}; choose another --pool or --out")
    theirs, ours = dict(found.get("generator", {})), dict(identity["generator"])
    if theirs != ours:
        key = next(k for k in {**theirs, **ours} if theirs.get(k) != ours.get(k))
        said = f"by another model ({found.get('model')})"
        if key in ("batch_size", "dtype"):
            said = f"with {key.replace('_', ' ')} {theirs.get(key)}, which may change the texts"
        raise UsageError(f"the pool {folder} was made {said}; choose another --pool or --out")


def _other(theirs: Any, ours: Mapping[str, Any]) -> str:
    """Which source a pool was made from another one of."""
    theirs = theirs if isinstance(theirs, Mapping) else {}
    changed = next((name for name in ours if theirs.get(name) != ours[name]), "documents")
    return "other documents" if changed == "documents" else f"another {changed.replace('_', ' ')}"


def _check_requests(name: str, recipe: Recipe, generator: Generator) -> None:
    """Refuse a generator that could not read what it will be asked."""
    if generator.window is None:
        return
    for what, (prompt, answer) in recipe.requests().items():
        if prompt + answer > generator.window:
            raise UsageError(
                f"recipe {name}: a request for {what} takes up to {prompt:,} tokens and {answer:,} of answer, "
                f"{prompt + answer:,} in all; the generator reads {generator.window:,}. --set makes texts smaller"
            )
