"""Passkey: lengths that hold in the model's own tokens, depths, keys and scores."""

import re

import pytest

from harness import ScoredSample, TaskEnvironment, UsageError, registry
from harness.evaluation.task_environment import task_environment
from harness.tasks.passkey import FILLER, Passkey, PasskeyOptions, most_that_fit

UNIT = len(FILLER.split())


def passkey(**options):
    return registry.tasks(["passkey"], {"passkey": options})[0]


class Words:
    """An environment that counts words as tokens, a chat template of ten, and how often it was asked."""

    def __init__(self, **changes):
        self.calls = 0
        self.env = TaskEnvironment(None, 8192, self.count, **changes)

    def count(self, prompt, chat, answer_prefix):
        self.calls += 1
        return len((prompt.text + answer_prefix).split()) + (10 if chat else 0)

    def length(self, sample):
        return self.count(sample.prompt, sample.chat, sample.answer_prefix) + sample.new_tokens


def test_the_default_lies_beyond_the_window_and_is_cheap():
    found = list(passkey().samples(Words().env))
    assert [s.id for s in found] == [f"len9216-depth{d}-t0" for d in (0, 50, 100)]


@pytest.mark.parametrize("preset", ["thesis", "beacon"])
def test_lengths_are_reached_and_never_passed(preset):
    words = Words()
    options = {"preset": preset, "lengths": "100,128,999,5000", "depths": "0,33.3,100", "trials": "2"}
    found = list(passkey(**options).samples(words.env))
    assert len(found) == len({s.id for s in found}) == 4 * 3 * 2
    assert words.calls <= 2 + 4 * len(found)  # counting is what costs at 128k
    for sample in found:
        assert 0 <= sample.metadata["length"] - words.length(sample) < UNIT


@pytest.mark.parametrize("preset", ["thesis", "beacon"])
@pytest.mark.parametrize("chat", ["auto", "never"])
def test_lengths_in_a_real_tokenizers_tokens(tiny_folder, preset, chat):
    from harness.models import loading
    from harness.prompts.rendering import render, tokenize

    model = loading.load(str(tiny_folder), device="cpu", chat=chat)
    env = task_environment(model)
    unit = len(model.tokenizer(FILLER + " ", add_special_tokens=False)["input_ids"])
    for sample in passkey(preset=preset, lengths="400,1300", depths="0,70").samples(env):
        rendered = render(sample.prompt, model, chat=sample.chat, answer_prefix=sample.answer_prefix)
        total = len(tokenize(rendered, model)) + sample.new_tokens
        assert 0 <= sample.metadata["length"] - total <= unit
        assert rendered.text.endswith(sample.answer_prefix)


def test_without_lengths_the_window_decides(tiny_folder):
    from harness.models import loading

    env = task_environment(loading.load(str(tiny_folder), device="cpu", context_length=250))
    assert {s.metadata["length"] for s in passkey().samples(env)} == {281}


@pytest.mark.parametrize(("depth", "before"), [(0, 0), (10, 0), (50, 2), (99.9, 3), (100, 4)])
def test_depth_counts_filler_units(depth, before):
    [sample] = passkey(lengths="130", depths=str(depth)).samples(Words().env)
    context, place = sample.prompt.context, sample.metadata["needle_position"]
    needle = f"The passkey is {sample.metadata['key']}."
    assert context.count(FILLER) == 4
    assert context[place:].startswith(needle) and context.count(needle) == 1
    assert context[:place].count(FILLER) == before


def test_the_thesis_preset():
    [sample] = passkey(lengths="100", depths="50").samples(Words().env)
    key = sample.references[0]
    assert sample.prompt.context == f"{FILLER} The passkey is {key}. {FILLER}"
    assert "passkey" in sample.prompt.prefix and sample.prompt.suffix == "\n\nWhat is the passkey?\n"
    assert (sample.chat, sample.answer_prefix, sample.new_tokens) == (True, "The passkey is ", 10)
    assert key not in sample.prompt.prefix + sample.prompt.suffix + sample.answer_prefix


def test_the_beacon_preset():
    task = passkey(preset="beacon", lengths="104", depths="50")
    [sample] = task.samples(Words().env)
    key = sample.references[0]
    assert sample.prompt.prefix == (
        "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. "
        "I will quiz you about the important information there.\n"
    )
    filler = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
    needle = f"\nThe pass key is {key}. Remember it. {key} is the pass key.\n"
    assert re.fullmatch(f"(?:{filler})+{needle}(?:{filler})+", sample.prompt.context)
    assert sample.prompt.suffix == "\nWhat is the pass key? The pass key is"
    assert (sample.chat, sample.answer_prefix, sample.new_tokens) == (False, "", 10)
    assert task.preset == "passkey-beacon@1"


def keys(seed=42, **options):
    return {s.id: s.metadata["key"] for s in passkey(**options).samples(Words(seed=seed).env)}


def test_keys_depend_on_seed_and_cell_only():
    alone = keys(lengths="300", depths="50", trials="2")
    among = keys(lengths="200,300", depths="0,50,100", trials="3")
    assert alone.items() <= among.items()
    assert keys(lengths="300", depths="50", trials="2", preset="beacon") == alone
    assert keys(lengths="300", depths="50", trials="2") == alone
    assert set(keys(seed=7, lengths="300", depths="50", trials="2").values()) != set(alone.values())
    assert len(set(among.values())) == len(among)
    assert all(re.fullmatch("[1-9][0-9]{4}", key) for key in among.values())


def test_a_limit_makes_no_more_than_asked():
    words = Words(limit=2)
    assert len(list(passkey(trials="50").samples(words.env))) == 2
    assert words.calls <= 10


def test_a_length_without_room_is_refused():
    with pytest.raises(UsageError, match=r"passkey: length 30 is too short: .* alone take \d+$"):
        list(passkey(lengths="30").samples(Words().env))


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("lengths", "0", "at least 1"),
        ("lengths", "many", "valid integer"),
        ("lengths", "", "at least one"),
        ("lengths", "300,300", "given twice"),
        ("depths", "-1", "between 0 and 100"),
        ("depths", "nan", "between 0 and 100"),
        ("depths", "50,101", "between 0 and 100"),
        ("depths", "50,50.0", "given twice"),
        ("trials", "0", "greater than or equal to 1"),
        ("preset", "other", "'thesis' or 'beacon'"),
    ],
)
def test_options_are_checked(option, value, reason):
    with pytest.raises(UsageError, match=rf"task passkey: option {option}=.*{reason}"):
        passkey(**{option: value})


@pytest.mark.parametrize(
    ("prediction", "accuracy", "fuzzy"),
    [
        ("12345", 1, 1),
        (" it is 12345. Remember 99999", 1, 1),
        ("12346", 0, 0.8),  # 2 * 4 / 10
        ("1234", 0, 0.89),  # 2 * 4 / 9
        ("99999 or 12345", 0, 0),  # the first run of digits is the answer
        ("12,345", 0, 0.57),  # 2 * 2 / 7
        ("no idea", 0, 0),
        ("", 0, 0),
    ],
)
def test_scores(prediction, accuracy, fuzzy):
    sample = Passkey.sample_from_row(None, {"answers": ["12345"]})
    assert passkey().score(sample, prediction) == {"accuracy": accuracy, "fuzzy": fuzzy}


def scored(length, depth, accuracy):
    return ScoredSample("x", {"accuracy": accuracy, "fuzzy": 1.0}, {"length": length, "depth": depth})


def test_breakdown_of_what_there_is_more_than_one_of():
    grid = [scored(500, 0.0, 1.0), scored(500, 50.0, 0.0), scored(9000, 0.0, 1.0), scored(9000, 50.0, 1.0)]
    assert passkey().breakdown(grid) == {
        "length 500": 0.5,
        "length 9000": 1.0,
        "depth 0": 1.0,
        "depth 50": 0.5,
    }
    assert passkey().breakdown(grid[:2]) == {"depth 0": 1.0, "depth 50": 0.0}
    assert passkey().breakdown(grid[:1]) == {}
    assert passkey().aggregate(grid) == {"accuracy": 0.75, "fuzzy": 1.0}


@pytest.mark.parametrize("guess", [0.5, 1, 20, 21.9, 22, 40, 1000])
@pytest.mark.parametrize("budget", [100, 121, 122, 143, 10_000])
def test_the_search_is_exact_whatever_the_guess(guess, budget):
    asked = []

    def tokens(units):
        asked.append(units)
        return 100 + 22 * units - units // 7  # merges at some borders

    found = most_that_fit(tokens, budget, 100, guess)
    assert tokens(found) <= budget < tokens(found + 1)
    if guess in (21.9, 22):
        assert len(asked) <= 8


def test_options_describe_themselves():
    from harness.options import describe

    rows = {row["name"]: row for row in describe(PasskeyOptions)}
    assert rows["lengths"]["type"] == "list of int" and rows["depths"]["type"] == "list of float"
    assert rows["preset"]["choices"] == ["thesis", "beacon"]
    assert all(row["description"] for row in rows.values())


def cells(limit, **options):
    return [
        (s.metadata["length"], s.metadata["depth"])
        for s in passkey(**options).samples(Words(limit=limit).env)
    ]


def test_a_limit_takes_lengths_and_depths_in_turns():
    grid = {"lengths": "100,200,300", "depths": "0,50,100"}
    assert cells(3, **grid) == [(100, 0), (200, 50), (300, 100)]
    whole = cells(None, **grid)
    assert whole == [(n, d) for n in (100, 200, 300) for d in (0, 50, 100)] == cells(9, **grid)
    for limit in range(1, 9):
        fewer, more = cells(limit, **grid), cells(limit + 1, **grid)
        assert len(fewer) == limit and set(fewer) < set(more), "a larger limit only adds"
        assert fewer == [cell for cell in whole if cell in fewer], "in the grid's own order"


def test_the_texts_are_those_of_the_whole_grid():
    grid = {"lengths": "100,200", "depths": "0,100", "trials": "2"}
    whole = {s.id: s for s in passkey(**grid).samples(Words().env)}
    for sample in passkey(**grid).samples(Words(limit=5).env):
        assert sample == whole[sample.id]
