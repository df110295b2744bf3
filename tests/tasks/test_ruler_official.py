"""RULER's essay tasks: the official draws handed in, in their order, give the official texts to the byte.

Draws and digests under `tests/golden` are of the official `niah.py` (NVIDIA/RULER @c3f5e3b4), run on a text of our own
that ends sentences inside words. `RULER_ESSAY_TEXTS` names a file of more of them, one object a line, with
`RULER_ESSAYS`, the folder of their `PaulGrahamEssays.json`; that needs nltk's English punkt data.
"""

import hashlib
import json
import os
import random
from pathlib import Path

import pytest

from harness.tasks.ruler import sentences, sources
from harness.tasks.ruler.needles import Essays, NeedleMaker
from harness.tasks.ruler.protocol import SPECS

GOLDEN = Path(__file__).parents[1] / "golden" / "ruler_essays.json"
SEED = 42
"""The official default; needles are shuffled by it."""


class Replay(random.Random):
    """Gives what was drawn officially: by the name of the function, in order, whatever was asked for.

    Officially a key is one draw from all pairs of words, here one from each list.
    """

    def __init__(self, draws):
        super().__init__(0)
        self.draws = [tuple(draw) for draw in draws]
        self.noun = None

    def _next(self, name):
        place = next(i for i, (each, _) in enumerate(self.draws) if each == name)
        return self.draws.pop(place)[1]

    def choice(self, items):
        if self.noun is None:
            adjective, _, self.noun = self._next("choice").partition("-")
            return adjective
        noun, self.noun = self.noun, None
        return noun

    def randint(self, low, high):
        return self._next("randint")

    def sample(self, items, k):
        found = self._next("sample")
        assert len(found) == k
        return found

    def getrandbits(self, bits):
        return self._next("getrandbits")


def text_of(row, essays):
    """Prompt and answer prefix of a row; its answers must be the official ones, and every draw be used."""
    draws = Replay(row["draws"])
    draft = NeedleMaker(SPECS[row["task"]], SEED, 4096, essays).draw(row["words"], draws, 0)
    assert list(draft.references) == row["answers"] and not draws.draws
    return draft.prompt.text + draft.answer_prefix


def same(row, text):
    assert len(text) == row["characters"]
    assert hashlib.sha256(text.encode()).hexdigest() == row["sha256"]


GIVEN = json.loads(GOLDEN.read_text("utf-8"))


def punkt(text):
    """What punkt makes of the text, and of the text twice: there is no full stop where the copies meet."""
    once = GIVEN["sentences"]
    if text.count(once[0]) == 1:
        return once
    return [*once[:-1], f"{once[-1]} {once[0]}", *once[1:]]


@pytest.mark.parametrize("row", GIVEN["samples"], ids=lambda row: f"{row['task']}-{row['words']}")
def test_official_texts(row, monkeypatch):
    monkeypatch.setattr(sentences, "_punkt", lambda: punkt)
    same(row, text_of(row, Essays(sources._essay_words(GIVEN), "punkt")))


TEXTS, ESSAYS = os.environ.get("RULER_ESSAY_TEXTS"), os.environ.get("RULER_ESSAYS")


@pytest.mark.skipif(not (TEXTS and ESSAYS), reason="RULER_ESSAY_TEXTS and RULER_ESSAYS are not set")
def test_every_recorded_official_text():
    essays = Essays(
        sources._essay_words(json.loads((Path(ESSAYS) / sources.ESSAYS).read_text("utf-8"))), "punkt"
    )
    rows = [json.loads(line) for line in Path(TEXTS).read_text("utf-8").splitlines()]
    assert rows
    for row in rows:
        same(row, text_of(row, essays))


@pytest.mark.parametrize(("words", "expected"), [(40, "d1eac26fe76b3d9b"), (399, "d0de8213c47c0dc8")])
def test_texts_by_rules_stay_what_they_are(words, expected):
    text = text_of_rules(words)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == expected


def text_of_rules(words):
    essays = Essays(sources._essay_words(GIVEN), "rules")
    maker = NeedleMaker(SPECS["niah_multikey_1"], SEED, 4096, essays)
    draft = maker.draw(words, random.Random("7"), 0)
    return draft.prompt.text + draft.answer_prefix
