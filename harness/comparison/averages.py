"""How a family of tasks is averaged."""

from __future__ import annotations

from collections.abc import Sequence

from .. import registry

PLAIN_MEAN = "mean of tasks"


def average_weights(family: str, variants: Sequence[str]) -> tuple[dict[str, dict[str, float]], list[str]]:
    """What each variant counts in each of its family's averages, found by asking the family.

    Returns
    -------
    tuple
        ``{average: {variant: weight}}`` without weights of 0 and without averages over a single variant, which
        are that variant; and the names of averages that are no weighted means. Where none is over all of the
        variants (a part of LongBench was asked), `PLAIN_MEAN` is, each of them counting the same.

    Raises
    ------
    UsageError
        If the family is not installed here.
    """
    cls = registry.task_class(family)[0].cls
    zeros = dict.fromkeys(variants, 0.0)
    probe = {v: (i + 1) / (len(variants) + 1) for i, v in enumerate(variants)}
    at_zero, at_probe = cls.averages(zeros), cls.averages(probe)
    units = {v: cls.averages({**zeros, v: 1.0}) for v in variants}
    found: dict[str, dict[str, float]] = {}
    others = []
    for name, value in at_probe.items():
        weights = {v: unit.get(name, 0.0) for v, unit in units.items()}
        if at_zero.get(name) != 0.0 or abs(sum(w * probe[v] for v, w in weights.items()) - value) > 1e-9:
            others.append(name)
        elif sum(w != 0 for w in weights.values()) > 1:
            found[name] = {v: w for v, w in weights.items() if w}
    if len(variants) > 1 and all(len(w) < len(variants) for w in found.values()):
        found[PLAIN_MEAN] = dict.fromkeys(variants, 1 / len(variants))
    return found, others
