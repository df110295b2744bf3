"""Rows that teach a memory: what they ask stands in them, and none of it is a task's wording."""

import itertools
import json
import random
import re
import string
import subprocess
import sys
from pathlib import Path

import pytest

from harness import UsageError
from harness.plugins.two_pass import calibration_text
from harness.tasks import passkey
from harness.tasks.longbench import prompts as longbench
from harness.tasks.niah import haystack
from harness.tasks.ruler import protocol
from harness.tasks.synthetic import recall, recall_dialogues

ROOT = Path(__file__).parents[2]
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
    with pytest.raises(UsageError, match=r"no text has the \d+ tokens that a context needs; give longer"):
        made(tiny, windows=(200,))


def test_the_tool_says_in_one_line_what_is_wrong(tmp_path):
    short = tmp_path / "short.jsonl"
    short.write_text(json.dumps({"body": "no text"}) + "\n")
    words = [sys.executable, ROOT / "tools" / "recall_rows.py", "--texts", short, "--out", tmp_path / "o"]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


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
    with pytest.raises(UsageError, match=r"no text has the \d+ tokens that a piece needs; give longer"):
        dialogues(tiny, tokens=(90_000,))


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
