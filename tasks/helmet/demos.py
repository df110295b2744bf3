"""Which rows and which examples HELMET draws: by Python's and numpy's generators, as its code seeds them."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Row = Mapping[str, Any]
SEED = 42
CLASSES = {
    "icl_trec_coarse": 6,
    "icl_trec_fine": 50,
    "icl_banking77": 77,
    "icl_clinic150": 151,
    "icl_nlu": 68,
}


def hashed(key: str) -> int:
    """The seed that stands for a key."""
    return int(hashlib.sha256(key.encode("utf-8")).hexdigest(), 16) % 2**31


def shuffled(rows: Sequence[Row], seed: int) -> list[Row]:
    """Rows in the order that ``datasets.Dataset.shuffle(seed=...)`` gives."""
    order = np.random.default_rng(seed).permutation(len(rows))
    return [rows[i] for i in order]


def key_of(row: Row, field: str) -> str:
    """What tells a question from others: its id, else its text."""
    return str(row[field] if field in row else row["question"])


def chosen(rows: Sequence[Row], field: str, number: int = 100) -> list[Row]:
    """The rows of `number` questions, drawn; a question has several rows where it is asked at several depths."""
    keys = sorted({key_of(row, field) for row in rows})
    taken = set(random.Random(SEED).sample(keys, min(number, len(keys))))
    return [row for row in rows if key_of(row, field) in taken]


def popular(row: Row) -> bool:
    """Whether a row of popqa is kept: its subject has fewer than a thousand views."""
    return math.log10(row["s_pop"]) < 3


def examples(row: Row, pool: Sequence[Row], field: str, shots: int) -> list[Row]:
    """`shots` examples for a row, one for each question, in the order of a seed that comes from its key."""
    if not shots:
        return []
    found: dict[str, Row] = {}
    for each in shuffled(pool, hashed(key_of(row, field))):
        found.setdefault(key_of(each, field), each)
    return list(found.values())[:shots]


def balanced(pool: Sequence[Row], shots: int, seed: int, field: str = "label") -> list[Row]:
    """Examples in rounds of one for each label, each round in an order of its own, `shots` in all."""
    rng = random.Random(seed)
    of_label: dict[Any, list[Row]] = {}
    for row in pool:
        of_label.setdefault(row[field], []).append(row)
    rounds: list[list[Row]] = [[] for _ in range(math.ceil(shots / len(of_label)))]
    for rows in of_label.values():
        # As officially: a multiple of the rows draws none at first, then as many as are there.
        places = rng.sample(range(len(rows)), len(rounds) % len(rows))
        while len(places) < len(rounds):
            places += rng.sample(range(len(rows)), min(len(rounds) - len(places), len(rows)))
        for made, place in zip(rounds, places):
            made.append(rows[place])
    for made in rounds:
        rng.shuffle(made)
    return [row for made in rounds for row in made][:shots]


def anywhere(pool: Sequence[Row], shots: int, seed: int) -> list[Row]:
    """`shots` examples whatever their labels, in the order of numpy's older generator."""
    return [pool[place] for place in np.random.RandomState(seed).permutation(len(pool))[:shots]]


def own_seed(text: str) -> int:
    """The seed of a row of in-context learning."""
    return (int(hashlib.sha256(text.encode("utf-8")).hexdigest(), 16) + SEED) % 2**31


def numbers(classes: int, seed: int) -> list[int]:
    """The number that stands for each label in a row: every row has an order of its own."""
    order = list(range(classes))
    random.Random(seed).shuffle(order)
    return order
