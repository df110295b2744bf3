"""Rows that teach a memory: what they ask stands in them, and none of it is a task's wording."""

import itertools
import json
import random
import re
import string

import pytest

from harness import UsageError
from harness.plugins.two_pass import calibration_text, planted
from harness.tasks import passkey
from harness.tasks.longbench import prompts as longbench
from harness.tasks.niah import haystack
from harness.tasks.ruler import protocol
from harness.tasks.synthetic import recall, recall_dialogues
from harness.training.rows import parse_row

from ..helpers.synthesizing import run

TEXT = " ".join(f"Sentence number {n} tells of the grey stone by the river." for n in range(200))


def made(tiny, count=12, **more):
    return list(recall.rows([TEXT], tiny.tokenizer, count, **{"interval": 256, "windows": (1, 2), **more}))


def test_the_same_rows_again(tiny):
    assert made(tiny) == made(tiny) != made(tiny, seed=1)


def test_a_prompt_fills_whole_windows_and_little_more(tiny):
    for row in made(tiny):
        size = len(tiny.tokenizer(row["prompt"], add_special_tokens=False)["input_ids"])
        assert 1 + 256 * row["windows"] <= size < 1 + 256 * row["windows"] + 40


def test_what_is_asked_stands_in_the_prompt(tiny):
    """Every fact that is asked for is planted, and the copied span is a span of the prompt's own text."""
    for row in made(tiny):
        asked = [line for line in row["answer"].splitlines() if "?" in line]
        assert asked, row["answer"]
        for line in asked:
            answer = line.rpartition("?")[2].split()[-1]
            assert answer in row["prompt"], line
        copied = next(
            line
            for line in row["answer"].splitlines()
            if line.startswith(tuple(c[:8] for c in recall.COPIED))
        )
        words = copied.partition(":")[2].split()
        assert len(words) >= 12 and all(word in TEXT for word in words)


def test_a_fact_has_its_answer_in_its_sentence_and_not_in_its_question():
    rng = random.Random(0)
    seen = set()
    for _ in range(400):
        one = recall.fact(rng)
        assert one.answer.strip() in one.sentence and one.answer.strip() not in one.question
        seen.add(re.sub(r"\W+", " ", one.question).split()[0])
    assert len(seen) >= 6


def test_short_windows_get_fewer_facts(tiny):
    for row in made(tiny, interval=64, facts=9):
        assert "number" in row["prompt"] and row["answer"].count("?") < 9


def test_no_text_is_long_enough(tiny):
    with pytest.raises(UsageError, match=r"no text has the [\d,]+ tokens that a context needs; give longer"):
        made(tiny, windows=(200,))


# --- dialogues


def dialogues(tiny, count=12, **more):
    return list(recall_dialogues.dialogues([TEXT], tiny.tokenizer, count, **{"tokens": (128, 256), **more}))


def test_a_dialogue_asks_for_what_its_first_turn_holds(tiny):
    assert dialogues(tiny) == dialogues(tiny) != dialogues(tiny, seed=1)
    seen = set()
    for row in dialogues(tiny, 40):
        turns = row["messages"]
        assert [t["role"] for t in turns] == ["user", "assistant"] * 7, "five facts, a copy, a continuation"
        first = turns[0]["content"]
        text, _, question = first.rpartition("\n\n")
        asked = [question, *(t["content"] for t in turns[2::2])]
        for said, answer in zip(asked, (t["content"] for t in turns[1::2])):
            if said in recall_dialogues.GO_ON:
                assert answer in TEXT and answer not in text
            elif said.startswith(recall_dialogues.COPY):
                begun = said[len(next(c for c in recall_dialogues.COPY if said.startswith(c))) :].strip()
                assert f"{begun} {answer}" in " ".join(TEXT.split())
            else:
                assert answer.removesuffix(".").split()[-1] in text and answer not in said
        seen.add(len(question))
    assert len(seen) > 5, "any of the questions may come first"


def test_no_text_is_long_enough_for_a_dialogue(tiny):
    with pytest.raises(UsageError, match=r"no text has the [\d,]+ tokens that a piece needs; give longer"):
        dialogues(tiny, tokens=(90_000,))


# --- as a recipe


def lines(folder):
    return [json.loads(line) for line in (folder / "data.jsonl").read_text().splitlines()]


def synthesised(tiny, folder, count=12, seed=42, **more):
    documents = folder.parent / "documents.jsonl"
    documents.write_text(json.dumps({"text": TEXT}) + "\n" + json.dumps({"text": "Too short."}) + "\n")
    card = run(
        tiny, folder, recipe="recall", count=count, seed=seed, options={"documents": str(documents), **more}
    )
    return card, lines(folder)


def test_the_recipe_makes_these_rows(tiny, tmp_path):
    card, found = synthesised(tiny, tmp_path / "out", windows="1,2")
    texts = [TEXT, "Too short."]
    expected = list(recall.rows(texts, tiny.tokenizer, 12, interval=256, windows=(1, 2)))
    key = lambda row: (row["prompt"], row["answer"])  # noqa: E731
    assert sorted(map(key, found)) == sorted(map(key, expected))
    by_prompt = {row["prompt"]: row["windows"] for row in expected}
    assert all(row["facts"]["windows"] == by_prompt[row["prompt"]] for row in found)
    assert card["request"]["pool"]["sources"]["documents"]
    for row in found:  # what is said of a row is measured
        size = len(tiny.tokenizer(row["prompt"], add_special_tokens=False)["input_ids"])
        assert row["prompt_tokens"] == size
        example = parse_row(row, "here")
        assert example.text == row["prompt"] and example.answer == row["answer"]


def test_rows_taken_up_again_are_those_of_one_go(tiny, tmp_path):
    """The pool grows: rows of before stay, those after are drawn as if all had been drawn at once."""
    _, whole = synthesised(tiny, tmp_path / "whole", count=40, windows="1")
    synthesised(tiny, tmp_path / "out", count=8, windows="1")
    documents = tmp_path / "documents.jsonl"
    run(
        tiny, tmp_path / "more", recipe="recall", count=40, pool=tmp_path / "out" / "pool", items=40,
        options={"documents": str(documents), "windows": "1"},
    )  # fmt: skip
    assert lines(tmp_path / "more") == whole


def test_dialogues_of_the_recipe(tiny, tmp_path):
    _, found = synthesised(tiny, tmp_path / "out", form="dialogues", pieces="128,256")
    expected = list(recall_dialogues.dialogues([TEXT, "Too short."], tiny.tokenizer, 12, tokens=(128, 256)))
    assert sorted(json.dumps(r["messages"]) for r in found) == sorted(
        json.dumps(r["messages"]) for r in expected
    )
    assert all(row["learn"] == "answer" and len(row["turns"]) == 7 for row in found)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"windows": "1,0"}, "windows=1,0: numbers above 0 with commas"),
        ({"pieces": "many"}, "pieces=many: numbers above 0"),
        ({"windows": "90"}, "no text has the 23,073 tokens that a context needs; give longer texts"),
        ({"documents": "nowhere.jsonl"}, "documents=nowhere.jsonl: no such file"),
        ({"documents": None}, "recipe recall: give its documents"),
    ],
)
def test_what_the_recipe_refuses(tiny, tmp_path, more, words):
    with pytest.raises(UsageError) as error:
        synthesised(tiny, tmp_path / "out", **more)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_few_texts_are_held_in_memory(tiny, monkeypatch):
    monkeypatch.setattr(recall, "HELD", 2 * len(TEXT))
    texts = [TEXT.replace("grey", colour) for colour in ("red", "blue", "green", "white", "black")]
    found = list(recall.rows(texts, tiny.tokenizer, 12, windows=(1,)))
    monkeypatch.undo()
    assert found == list(recall.rows(texts, tiny.tokenizer, 12, windows=(1,)))


# --- nothing of an evaluation task


def grams(text, size):
    """Runs of so many words, fields in braces being no words."""
    words = re.findall(r"[a-z]+|\x00", re.sub(r"\{[^}]*\}", "\x00", text.lower()))
    runs = (tuple(words[i : i + size]) for i in range(len(words) - size + 1))
    return {run for run in runs if "\x00" not in run}


def task_texts():
    for wording in passkey.PRESETS.values():
        yield from (wording.instruction, wording.needle, wording.question, wording.answer_prefix)
    yield passkey.FILLER
    yield haystack.QUESTION
    for module in (haystack, protocol, longbench):
        for value in vars(module).values():
            yield from strings(value)


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from itertools.chain.from_iterable(map(strings, value.values()))
    elif isinstance(value, tuple | list):
        yield from itertools.chain.from_iterable(map(strings, value))
    elif hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        yield from itertools.chain.from_iterable(
            strings(getattr(value, n)) for n in value.__dataclass_fields__
        )


def template_texts():
    for sentence, question, answer in recall.FACTS:
        yield from (sentence, question, answer)
    yield from (*recall.COPIED, *recall_dialogues.COPY, *recall_dialogues.GO_ON, *recall_dialogues.BEFORE)
    for fact, question in planted.FACTS:
        yield from (fact, question)
    for name in ("_FORMS", "_RECORDS", "_TALK", "_QUESTIONS"):
        yield from getattr(calibration_text, name)


def test_training_and_calibration_share_no_wording_with_a_task():
    tasks = [text for text in task_texts() if not text.startswith("\n    ")]
    theirs = {gram for text in tasks for gram in grams(text, 4)}
    assert {("what", "is", "the", "passkey"), ("is", "the", "pass", "key")} <= theirs
    assert ("best", "thing", "to", "do") in theirs and ("one", "of", "the", "special") in theirs
    assert any("article" in gram for gram in theirs), "LongBench's prompts are among them"
    for text in template_texts():
        assert not grams(text, 4) & theirs, text


def test_words_that_name_a_task_stand_nowhere():
    banned = (
        "passkey",
        "pass key",
        "magic",
        "needle",
        "haystack",
        "san francisco",
        "sandwich",
        "grass",
        "variable",
    )
    lists = (recall.NAMES, recall.PLACES, recall.COLOURS, recall.DAYS, recall.GOODS)
    for text in (*template_texts(), *itertools.chain.from_iterable(lists)):
        assert not [word for word in banned if word in text.lower()], text


def test_templates_have_only_fields_that_are_filled():
    fields = {f for parts in recall.FACTS for t in parts for _, f, _, _ in string.Formatter().parse(t) if f}
    assert fields == set("abcdgklmnpwy")
