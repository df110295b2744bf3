"""Layers chosen by the facts they find: what is planted, how ranges are compared, and a fit that chooses."""

import json
from pathlib import Path

import numpy as np
import pytest

from harness import UsageError
from harness.cli import invoke
from harness.plugins.two_pass import planted
from harness.plugins.two_pass.options import TwoPassFitOptions

from .test_condensing import INTERVAL, two_pass

SPREAD = np.random.default_rng(0)


@pytest.mark.parametrize("number", range(4))
def test_a_fact_stands_in_one_interval_and_the_prompt_asks_for_it(tiny, number):
    engine = two_pass(tiny).engine
    engine.interval = 256  # of the tiny tokenizer's tokens, about a letter each
    ids, place = planted.planted(tiny, engine, 6, 4 * number, 16)
    form, asked = planted.FACTS[number]
    own = tiny.tokenizer.decode(ids[engine.end_of(place) if place else 0 : engine.end_of(place + 1)])
    start, stop = form.split("{")[0], form.rsplit("}", 1)[1]
    assert start in own and stop in own
    assert asked.split("{")[0] in tiny.tokenizer.decode(ids[engine.end_of(6) :])
    assert abs(place - (number + 0.5) / 4 * 6) < 3, "facts are spread over the text"


def attention(rows, layers, intervals, places=None, heed=()):
    """Shares drawn at random; of those with a place, the layers that heed give it three times as much."""
    found = SPREAD.lognormal(0, 0.3, (rows, layers, intervals))
    for row, place in enumerate(() if places is None else places):
        found[row, list(heed), place] *= 3
    return found / found.sum(axis=2, keepdims=True)


def test_the_layers_that_heed_the_facts_are_found():
    places = np.array([2, 5, 9, 13, 18, 22, 27, 30])
    natural, asked = attention(12, 10, 32), attention(8, 10, 32, places, heed=(4, 5, 6))
    (first, stop), scores = planted.best(natural, asked, places)
    assert (first, stop) == (4, 7)
    assert scores[4, 7].margin > scores[0, 10].margin > scores[7, 10].margin
    assert scores[4, 7].rank == 1 > scores[7, 10].rank
    assert len(scores) == 55 and all(0 < s.rank <= 1 and abs(s.margin) <= 3 for s in scores.values())


def test_of_equals_the_first_pass_that_ends_first_and_then_the_widest():
    natural = attention(6, 4, 8)
    places = np.array([1, 4])
    asked = attention(2, 4, 8)
    asked[np.arange(2), :, places] = 10  # every layer finds everything
    assert planted.best(natural, asked, places)[0] == (0, 1)
    asked[np.arange(2), :1, places] = 1e-6
    assert planted.best(natural, asked, places)[0] == (0, 2)


def test_a_fit_chooses_and_what_it_saves_is_listened_to(tiny_folder, tmp_path, empty_cache, capsys):
    same = ["--model", str(tiny_folder), "--device", "cpu", "--interval", "128", "--compressor", "beacon"]
    fit = ["fit", "-m", "two_pass", *same, "--intervals", "5", "--contexts", "2", "--choose-layers", "3"]
    assert invoke([*fit, "--out", str(tmp_path / "out"), "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    chosen = card["chosen_layers"]
    assert (chosen["facts"], chosen["contexts"], chosen["intervals"]) == (3, 2, 5)
    assert chosen["margin"] >= chosen["all_margin"] and 0 < chosen["rank"] <= 1
    [name] = card["files"]
    layers = json.loads((tmp_path / "out" / name).read_text())["key"].get("layers")
    assert layers == (None if chosen["layers"] == "1-2" else chosen["layers"])
    run = ["run", "-m", "two_pass", *same, "--adapter", str(tmp_path / "out"), "--limit", "1", "--json"]
    assert invoke([*run, "--task", "passkey", "--out", str(tmp_path / "runs")]) == 0
    written = Path(json.loads(capsys.readouterr().out)["folder"]) / "run.json"
    assert json.loads(written.read_text())["identity"]["options"].get("first_layers") == layers


@pytest.mark.parametrize("said", [{"first_layers": "1-1"}, {"reuse": "raw"}, {"retrieval": "bm25"}])
def test_there_is_nothing_to_choose_where_layers_are_said_or_not_used(tiny, said):
    with pytest.raises(UsageError, match="--choose-layers: leave out"):
        two_pass(tiny, **said).check_fit(TwoPassFitOptions(choose_layers=3))


def test_one_interval_has_nothing_to_find(tiny):
    with pytest.raises(UsageError, match="must name 2 or more"):
        two_pass(tiny).check_fit(TwoPassFitOptions(choose_layers=3, intervals="1"))


def test_a_fact_that_fits_no_interval_is_said_in_one_line(tiny):
    engine = two_pass(tiny).engine
    assert engine.interval == INTERVAL  # less than a sentence of the tiny tokenizer
    with pytest.raises(UsageError, match="raise --interval"):
        planted.planted(tiny, engine, 6, 0, 4)
