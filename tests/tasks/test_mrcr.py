"""MRCR: rows of both publishers as conversations and texts, their grades, and conversations of our own making."""

import json

import pytest

from harness import UsageError, registry
from harness.errors import Unavailable
from harness.evaluation.task_environment import task_environment
from harness.prompts.conversation import messages_of
from harness.prompts.rendering import render
from harness.tasks.mrcr.scores import openai_score, v2_score

from ..helpers.official import environment, run_on, write_rows

TEXT = "The grass of the moor is green, and the sky over it is blue. " * 5
TURNS = [
    {"role": "user", "content": "Write a song about moors"},
    {"role": "assistant", "content": "Moor song one."},
    {"role": "user", "content": "Write a song about moors"},
    {"role": "assistant", "content": "Moor song two."},
    {"role": "user", "content": "Prepend aB3 to the 2nd (1 indexed) song about moors."},
]
ROW = {
    "prompt": json.dumps(TURNS),
    "answer": "aB3Moor song two.",
    "random_string_to_prepend": "aB3",
    "n_needles": 2,
    "desired_msg_index": 3,
    "date_added": None,
}
V2 = {
    "queries": "Examples.\n\nUser: Write a song.\n\nAssistant: La.\n\nUser: Prepend abcdefghijkl to the first song.",
    "answer": "abcdefghijklLa.",
    "context_len": "120",
    "num_relevant": 2,
}


def task(name, **options):
    [made] = registry.tasks([f"mrcr/{name}"], {"mrcr": options})
    return made


def taken(name, folder, tokenizer, **changes):
    return list(task(name, **changes.pop("options", {})).samples(environment(folder, tokenizer, **changes)))


@pytest.mark.parametrize(
    ("said", "score"),
    [
        ("aB3" + TEXT, 1.0),
        (" aB3" + TEXT, 0.0),
        ("ab3" + TEXT, 0.0),
        ("<think>\n</think>aB3" + TEXT, 0.0),
        ("", 0.0),
        ("aB3", 0.0),
    ],
)
def test_openais_grade_begins_at_the_first_character(said, score):
    assert openai_score(said, "aB3" + TEXT, "aB3") == score


def test_the_order_of_the_texts_and_popular_characters_count():
    """Both leave difflib's `autojunk` on and order the texts differently: other numbers than a plain ratio."""
    import difflib

    changed = TEXT.replace("grass", "heath").replace("blue", "grey")
    ratio = difflib.SequenceMatcher(None, changed, TEXT).ratio()
    swapped = difflib.SequenceMatcher(None, TEXT, changed).ratio()
    plain = difflib.SequenceMatcher(None, changed, TEXT, autojunk=False).ratio()
    assert openai_score("aB3" + changed, "aB3" + TEXT, "aB3") == ratio != plain
    assert v2_score("abcdefghijkl" + changed.strip(), "abcdefghijkl" + TEXT) == pytest.approx(
        swapped, abs=0.02
    )


@pytest.mark.parametrize(
    ("said", "score"),
    [
        ("  abcdefghijkl  La.\n", 1.0),
        ("Here it is: abcdefghijklLa.", 1.0),
        ("abcdefghijkl no abcdefghijklLa.", 1.0),
        ("La.", 0.0),
        ("", 0.0),
        ("ABCDEFGHIJKLLa.", 0.0),
    ],
)
def test_deepminds_grade_takes_what_follows_the_last_hash(said, score):
    assert v2_score(said, "abcdefghijkl La. ") == score
    assert v2_score(said, "short") == 0.0


def test_a_row_is_a_conversation_that_ends_with_the_question(tmp_path, tiny):
    write_rows(tmp_path / "2needle.jsonl", ROW)
    [sample] = taken("2needle", tmp_path, tiny.tokenizer)
    assert messages_of(sample.prompt) == [(t["role"], t["content"]) for t in TURNS]
    assert sample.prompt.context.endswith("two.") and sample.prompt.suffix == TURNS[-1]["content"]
    rendered = render(sample.prompt, tiny, chat=True)
    own = tiny.tokenizer.apply_chat_template(TURNS, tokenize=False, add_generation_prompt=True)
    assert rendered.text == own
    assert sample.metadata["bin"] == 8192 and sample.metadata["prefix"] == "aB3"


def test_parquet_files_as_published_are_read(tmp_path, tiny):
    import pyarrow
    from pyarrow import parquet

    for part in (0, 1):
        row = {**ROW, "answer": f"aB3Moor song {part}."}
        (tmp_path / "2needle").mkdir(exist_ok=True)
        parquet.write_table(
            pyarrow.Table.from_pylist([row]), tmp_path / "2needle" / f"2needle_{part}.parquet"
        )
    told = []
    found = taken("2needle", tmp_path, tiny.tokenizer, notify=told.append)
    assert [s.references for s in found] == [("aB3Moor song 0.",), ("aB3Moor song 1.",)]
    assert len(told) == 1 and "2 rows, the published set has 800" in told[0]


def test_rows_of_the_first_version_are_named(tmp_path, tiny):
    row = {k: v for k, v in ROW.items() if k != "date_added"}
    write_rows(tmp_path / "2needle.jsonl", row)
    told = []
    made = task("2needle")
    list(made.samples(environment(tmp_path, tiny.tokenizer, notify=told.append)))
    assert "first version (openai/mrcr @204b0d4e)" in told[0]
    assert made.facts()["revision"].startswith("204b0d4e")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt": json.dumps(TURNS[:-1])}, "line 2: the conversation ends with assistant"),
        ({"prompt": "[{"}, "line 2: field 'prompt' is no JSON"),
        ({"prompt": [{"role": "user"}]}, "line 2: turn 1 of the prompt has no role and content"),
        ({"answer": "xMoor"}, "line 2: the answer does not begin with random_string_to_prepend 'aB3'"),
        ({"n_needles": 4}, "line 2: it has 4 needles and not 2"),
        ({}, "line 2: a second row with the id"),
    ],
)
def test_a_broken_row_is_named_by_file_and_line(tmp_path, tiny, change, said):
    write_rows(tmp_path / "2needle.jsonl", ROW, {**ROW, **change})
    with pytest.raises(UsageError, match=f"2needle.jsonl, {said}"):
        taken("2needle", tmp_path, tiny.tokenizer)


def test_deepminds_csv_is_one_text_with_the_question_at_its_end(tmp_path, tiny):
    import csv

    name = "mrcr_v2p1_2needle_in_(4096,8192)_dynamic_fewshot_text_style_fast.csv"
    with (tmp_path / name).open("w", newline="") as file:
        out = csv.DictWriter(file, list(V2))
        out.writeheader()
        out.writerow(V2)
    [sample] = taken("v2_2needle", tmp_path, tiny.tokenizer, options={"v2_length": "in_(4096,8192)"})
    assert sample.prompt.text == V2["queries"]
    assert sample.prompt.suffix == "User: Prepend abcdefghijkl to the first song."
    assert sample.metadata["context_len"] == 120
    with pytest.raises(Unavailable, match="upto_128K"):
        taken("v2_2needle", tmp_path, tiny.tokenizer)


def test_deepminds_row_that_ends_with_an_answer_is_refused(tmp_path, tiny):
    write_rows(tmp_path / "v2_2needle.jsonl", {**V2, "queries": V2["queries"] + "\n\nAssistant: La."})
    with pytest.raises(UsageError, match="line 1: 'queries' does not end with a turn of the user"):
        taken("v2_2needle", tmp_path, tiny.tokenizer)


def test_own_conversations_have_their_length_and_are_the_same_each_time(tiny):
    env = task_environment(tiny)
    made = task("own_2needle", lengths="700,1100", samples=2)
    found = list(made.samples(env))
    assert [s.id for s in found] == ["700-0000", "1100-0000", "700-0001", "1100-0001"]
    assert found == list(made.samples(env))
    for sample in found:
        count = env.count(sample.prompt, True, "")
        assert sample.metadata["length"] - 250 < count <= sample.metadata["length"]
        turns = messages_of(sample.prompt)
        asked = [
            turns[n + 1][1] for n, turn in enumerate(turns[:-1]) if turn == turns[0] or turn[0] == "user"
        ]
        assert len(set(asked)) == len(asked), "no two answers are alike"
        wanted = sample.references[0].removeprefix(sample.metadata["prefix"])
        about = next(turns[n][1] for n in range(0, len(turns), 2) if turns[n + 1][1] == wanted)
        alike = [turns[n + 1][1] for n in range(0, len(turns) - 1, 2) if turns[n][1] == about]
        assert len(alike) == 2 and alike[sample.metadata["desired"] - 1] == wanted
        assert made.score(sample, sample.references[0]) == {"score": 1.0}
    with pytest.raises(UsageError, match="needles alone take"):
        list(task("own_8needle", lengths="200").samples(env))


def test_it_runs_from_a_folder(tiny_folder, tmp_path):
    write_rows(tmp_path / "data" / "2needle.jsonl", ROW)
    result, records = run_on(
        tiny_folder,
        tmp_path / "runs",
        tmp_path / "data",
        "mrcr/2needle",
        task_settings={"mrcr": {"new_tokens": "8"}},
    )
    [record] = records.values()
    assert record["status"] == "ok" and record["scores"].keys() == {"score"}
    assert result.summary["tasks"][0]["n_ok"] == 1


def test_rows_of_longer_bins_can_be_left_out(tmp_path, tiny):
    long = [*TURNS[:2], {"role": "user", "content": "Say it. " * 9000}, TURNS[1], TURNS[4]]
    write_rows(tmp_path / "2needle.jsonl", ROW, {**ROW, "prompt": long})
    found = taken("2needle", tmp_path, tiny.tokenizer)
    first, second = (s.metadata["bin"] for s in found)
    assert first == 8192 < second
    assert len(taken("2needle", tmp_path, tiny.tokenizer, options={"longest": 8192})) == 1
