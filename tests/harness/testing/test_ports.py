"""Methods of other kinds keep to the contract as they are; what their authors might have got wrong is caught."""

import os
from functools import partial

import pytest

from harness.testing import check_method, tiny_model

from ...helpers.serving import completions, serving
from .mistaken_ports import MISTAKEN
from .more_mistakes import SENT
from .ports import PORTS

SMALL = partial(tiny_model, 256)

QUICK = (
    "ChunksThatEndTooSoon SnapThatDoesNotTurn SnapThatTurnsOneLayer GistThatTurnsHalfWay SnapOfAllSamples "
    "ChunksThatSayTheyAreBlind GistThatLearnsNothing GistThatCountsLessIfAsked ChunksCutToTheWindow "
    "ChunksWithoutTheInstruction ChunksUnderTwoTemplates SnapWithMixedHeads GistWithOneQuestionForAll "
    "ChunksOnOneLine GistBackwards ChunksWithTheBestTwice GistWithoutTheQuestion "
    "SnapThatTurnsValuesToo SnapWithTheNeighboursValuesWhereItDrops SnapWithMixedHeadsWhereItDrops "
    "ChunksAnsweredInCompression"
).split()
"""One of each kind; all of them with HARNESS_SLOW_TESTS=1."""

CHOSEN = [cls for cls in MISTAKEN if os.environ.get("HARNESS_SLOW_TESTS") or cls.__name__ in QUICK]


@pytest.mark.parametrize("cls", PORTS)
def test_a_right_one_passes(cls):
    assert not [r for r in check_method(cls, model=SMALL) if not r.ok]


@pytest.mark.parametrize("cls", CHOSEN)
def test_a_mistake_is_caught(cls):
    found = check_method(cls, only=MISTAKEN[cls], model=SMALL)
    assert [r for r in found if r.status == "failed" and "; " in r.reason]


@pytest.mark.parametrize("cls", SENT)
def test_a_mistake_in_what_is_sent_is_caught(cls):
    with serving(completions(SMALL()), ["m"]) as server:
        found = check_method(cls, {"url": server.url}, only=[SENT[cls]], model=SMALL)
    assert [r for r in found if r.name == SENT[cls] and r.status == "failed" and "; " in r.reason]
