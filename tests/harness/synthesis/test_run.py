"""Pools that survive a kill, samples that are what their lines say, and refusals of one line."""

import hashlib
import json
import tracemalloc

import pytest

from harness.cli import invoke
from harness.contracts.recipe import Answer, LengthRange, Request, intervals, share
from harness.errors import HarnessError, UsageError
from harness.models import loading
from harness.synthesis.generators import ModelGenerator
from harness.synthesis.inputs import parse_length
from harness.synthesis.pool import read_identity
from harness.synthesis.run import execute

from ...helpers.synthesizing import Quiet, Script, make, run


def rows(folder):
    return [json.loads(line) for line in (folder / "data.jsonl").read_text("utf-8").splitlines()]


def contents(folder):
    """Every file that must repeat, by name."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


# --- numbers


def test_counts_keep_the_papers_proportions():
    weights = {"qa": 4000, "summarization": 2000, "few_qa": 1000, "few_sum": 1000}
    assert share(40, weights) == {"qa": 20, "summarization": 10, "few_qa": 5, "few_sum": 5}
    assert share(8000, weights) == weights
    assert all(sum(share(n, weights).values()) == n for n in range(1, 60))


def test_a_span_lies_in_the_intervals_it_touches():
    assert list(intervals((0, 1024), 1024)) == [0]
    assert list(intervals((1023, 1025), 1024)) == [0, 1]
    with pytest.raises(UsageError):
        intervals((5, 5), 1024)


def test_lengths_are_ranges_or_bins():
    assert parse_length("1000-8000") == LengthRange(1000, 8000)
    assert parse_length("512k-1m") == LengthRange(512_000, 1_000_000)
    assert parse_length("4M-10M").high == 10_000_000


# --- samples


@pytest.mark.parametrize("recipe", ["thesis", "experts"])
def test_a_line_is_what_it_says(tiny, tmp_path, recipe):
    run(tiny, tmp_path, recipe, length="3000-12000")
    found = rows(tmp_path)
    assert len(found) == 12 and len({row["id"] for row in found}) == 12
    for row in found:
        prompt = row["prompt"]
        assert row["prefix"][0] == 0 and row["prefix"][1] == row["context"][0]
        assert row["context"][1] == row["suffix"][0] and row["suffix"][1] == len(prompt)
        assert row["answer"].startswith(row["label"]) and row["question"] in prompt[row["suffix"][0] :]
        assert row["tokens"] == row["prompt_tokens"] + row["answer_tokens"]
        assert row["evidence"]
        tokens = tiny.tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)
        # Sums over pieces; this tokenizer splits before anything else where the pieces meet.
        assert abs(len(tokens["input_ids"]) - row["prompt_tokens"]) <= 0.01 * row["prompt_tokens"]
        for one in row["evidence"]:
            start, end = one["chars"]
            assert row["context"][0] <= start < end <= row["context"][1]
            near = tokens["offset_mapping"][one["tokens"][0]][0]
            assert abs(near - start) <= 0.01 * len(prompt) + 2


def test_lengths_are_kept_and_spread(tiny, tmp_path):
    card = run(tiny, tmp_path, count=60, length="4000-14000")
    lengths = [row["tokens"] for row in rows(tmp_path)]
    assert all(4000 <= n <= 14_000 for n in lengths)
    assert min(lengths) < 5500 and max(lengths) > 12_500
    assert card["lengths"]["min"] == min(lengths)
    assert sum(bar["samples"] for bar in card["lengths"]["histogram"]) == 60


def test_without_a_length_a_story_sample_has_3_to_14(tiny, tmp_path):
    run(tiny, tmp_path, count=60)
    assert {row["passages"] for row in rows(tmp_path)} <= set(range(3, 15))


def test_passages_repeat_only_where_the_pool_is_too_small(tiny, tmp_path):
    small = run(tiny, tmp_path / "a", count=8, length="2000-4000")
    assert small["samples"]["repeated_passages"] == 0
    large = run(tiny, tmp_path / "b", count=8, length="20000-30000", pool=tmp_path / "a" / "pool")
    samples = large["samples"]
    assert samples["repeated_passages"] > 0 and samples["samples_with_repeated_passages"] == 8
    assert f"{samples['repeated_passages']:,} stand" in (tmp_path / "b" / "README.md").read_text()
    for row in rows(tmp_path / "b"):
        for one in row["evidence"]:  # what is asked about stands there once
            start, end = one["chars"]
            assert row["prompt"].count(row["prompt"][start:end]) == 1


def test_a_long_sample_needs_no_memory_of_its_length(tiny, tmp_path):
    run(tiny, tmp_path / "a", count=1)
    plan = make(tiny, tmp_path / "b", count=1, length="400000-410000", pool=tmp_path / "a" / "pool")
    tracemalloc.start()
    execute(plan, Quiet())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "b" / "data.jsonl").stat().st_size > 400_000
    assert peak < 3_000_000  # the plan and the counts of numbers; the text passes through


# --- pools


def test_the_same_seed_gives_the_same_bytes(tiny, tmp_path):
    for name in "ab":
        run(tiny, tmp_path / name, "experts")
    run(tiny, tmp_path / "c", "experts", seed=7)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a")["data.jsonl"] != contents(tmp_path / "c")["data.jsonl"]


@pytest.mark.parametrize("torn", [b"", b'{"i": 8, "noun": "x', b'{"i": 8, "noun": "x", "text": "whole"}\n'])
def test_a_kill_costs_one_batch_and_changes_nothing(tiny, tmp_path, torn):
    run(tiny, tmp_path / "whole")
    run(tiny, tmp_path / "cut")
    folder = tmp_path / "cut"
    (folder / "data.jsonl").unlink()
    story = folder / "pool" / "story.jsonl"
    story.write_bytes(b"".join(story.read_bytes().splitlines(keepends=True)[:8]) + torn)
    for stage in ("question", "qa", "summary"):
        (folder / "pool" / f"{stage}.jsonl").unlink()
    again = Script()
    run(tiny, folder, generator=again)
    assert contents(folder) == contents(tmp_path / "whole")
    assert next(key for key in again.asked if key.startswith("story")) == "story 8"


def test_a_line_damaged_in_the_middle_is_not_guessed_at(tiny, tmp_path):
    run(tiny, tmp_path)
    story = tmp_path / "pool" / "story.jsonl"
    lines = story.read_bytes().splitlines(keepends=True)
    story.write_bytes(b"".join([*lines[:3], b"{broken\n", *lines[4:]]))
    (tmp_path / "data.jsonl").unlink()
    with pytest.raises(UsageError, match=r"story\.jsonl line 4 is damaged"):
        run(tiny, tmp_path)


def test_a_pool_serves_other_lengths_and_grows(tiny, tmp_path):
    run(tiny, tmp_path / "a", count=8)
    pool = tmp_path / "a" / "pool"
    before = contents(pool)
    idle = Script()
    run(tiny, tmp_path / "b", generator=idle, length="8K-16K", count=4, pool=pool, seed=3)
    assert idle.asked == [] and contents(pool) == before
    grown = Script()
    run(tiny, tmp_path / "c", generator=grown, count=4, pool=pool, items=24)
    assert "story 16" in grown.asked and "story 15" not in grown.asked
    assert read_identity(pool)["items"] == 24
    run(tiny, tmp_path / "d", count=8, items=24)
    assert contents(tmp_path / "d" / "pool") == contents(pool)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"recipe": "experts"}, 'made by recipe "thesis"'),
        ({"options": {"story_tokens": 99}}, "made with options"),
        ({"nouns": ["other"]}, "another list of nouns"),
        ({"generator": Script(batch_size=8)}, "made with batch size 4"),
    ],
)
def test_a_pool_of_somebody_else_is_refused(tiny, tmp_path, change, said):
    run(tiny, tmp_path / "a")
    with pytest.raises(UsageError, match=said):
        make(tiny, tmp_path / "b", pool=tmp_path / "a" / "pool", **change)


def test_a_pool_of_another_model_is_refused(tiny, tmp_path):
    run(tiny, tmp_path / "a")
    other = Script()
    other.facts = lambda: {"kind": "model", "content_hash": "other", "batch_size": 4}
    with pytest.raises(UsageError, match="made by another model"):
        make(tiny, tmp_path / "b", generator=other, pool=tmp_path / "a" / "pool")


def test_other_data_is_not_written_over(tiny, tmp_path):
    run(tiny, tmp_path)
    assert run(tiny, tmp_path)["data"]["sha256"]  # the same again is fine
    with pytest.raises(UsageError, match="holds another data set"):
        make(tiny, tmp_path, count=5)


def test_a_kill_before_the_card_leaves_a_folder_that_goes_on(tiny, tmp_path):
    run(tiny, tmp_path)
    (tmp_path / "data.jsonl").unlink()  # the card is written first, the data takes its name last
    (tmp_path / ".data.jsonl.partial").write_text("torn")
    run(tiny, tmp_path)
    assert len(rows(tmp_path)) == 12 and not (tmp_path / ".data.jsonl.partial").exists()


def test_the_card_counts_what_was_dropped(tiny, tmp_path):
    say = {
        "story": lambda i: "" if i == 1 else "word " * 50 if i == 2 else Answer("no end", False, 2) if i == 3 else
        Script().usual("story", i, 42, ""),
        "summary": lambda i: "Nothing of that kind at all here today, friend, sorry indeed." if i == 5 else
        Script().usual("summary", i, 42, ""),
    }  # fmt: skip
    card = run(tiny, tmp_path, generator=Script(say=say))
    stages = card["pool"]["stages"]
    assert stages["story"]["dropped"] == {"empty": 1, "repetitive": 1, "truncated": 1}
    assert stages["qa"]["dropped"] == {"not asked": 3}
    assert stages["summary"]["dropped"] == {"not asked": 3, "unanswerable": 1}
    assert card == json.loads((tmp_path / "card.json").read_text())
    assert card["data"]["sha256"] == contents(tmp_path)["data.jsonl"]


def test_a_model_that_writes_nothing_usable_is_said_in_one_line(tiny, tmp_path):
    with pytest.raises(HarnessError, match=r"nothing usable: story: 16 items, of these 16 empty"):
        run(tiny, tmp_path, generator=Script(say={"story": " "}))
    assert not (tmp_path / "data.jsonl").exists()


def test_a_task_without_items_is_missing_and_said(tiny, tmp_path):
    card = run(tiny, tmp_path, generator=Script(say={"summary": "No."}))
    made = {"qa": 6, "summarization": 0, "few_shot_qa": 2, "few_shot_summarization": 0}
    assert card["samples"]["made"] == made


def test_a_length_that_nothing_fits_is_refused(tiny, tmp_path):
    with pytest.raises(UsageError, match=r"10-20: too short for \w+, which takes about \d+ tokens"):
        run(tiny, tmp_path, length="10-20")
    assert not list(tmp_path.glob("*.jsonl")) and not list(tmp_path.glob(".data*"))


def test_a_full_disk_is_one_line(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        run(tiny, tmp_path / "file" / "out", pool=tmp_path / "pool", items=4)


# --- the model as generator


def requests(number):
    return [
        Request(f"story {n}", f"Grass {n}. The sky" + " is blue." * n, 12, 0.7, 50) for n in range(number)
    ]


def test_the_model_draws_each_answer_from_its_own_seed(tiny):
    generator = ModelGenerator(tiny, 4)
    together = generator.generate(requests(4), 1)
    assert together == generator.generate(requests(4), 1)
    assert [a.text for a in together] != [a.text for a in generator.generate(requests(4), 2)]
    assert together[2].text == generator.generate(requests(4)[2:3], 1)[0].text
    assert all(0 < a.tokens <= 12 for a in together)
    assert all(a.ended or a.tokens == 12 for a in together)


def test_top_k_of_one_is_greedy(tiny):
    import torch

    from harness.contracts.prompt import Prompt
    from harness.prompts.rendering import render, tokenize

    ask = Request("x 0", "The sky is", 6, 5.0, 1)
    ids = list(tokenize(render(Prompt("", ask.prompt, ""), tiny, chat=True), tiny).ids)
    written = []
    for _ in range(6):
        with torch.no_grad():
            token = int(tiny.network(torch.tensor([ids + written])).logits[0, -1].argmax())
        written.append(token)
        if token in tiny.end_ids:
            break
    text = tiny.tokenizer.decode(written, skip_special_tokens=True)
    padded = ModelGenerator(tiny, 2).generate([ask, *requests(4)[3:]], 0)[0]
    assert padded.text == text


def test_a_prompt_beyond_the_window_is_refused(tiny):
    with pytest.raises(UsageError, match="do not fit the 256 tokens"):
        ModelGenerator(tiny, 1).generate([Request("x 0", "word " * 300, 5, 0.7, 50)], 0)


# --- the command line


def test_the_verb_makes_data_with_the_model_itself(tiny_folder, tmp_path, capsys):
    """A random model writes nothing usable, and the verb says so."""
    nouns = tmp_path / "nouns.txt"
    nouns.write_text("cat\ndog\n")
    words = f"synth --recipe thesis --count 2 --items 2 --model {tiny_folder} --nouns {nouns} --batch-size 2"
    words += f" --set story_tokens=16 --out {tmp_path / 'o'} --device cpu"
    assert invoke(words.split()) == 1
    err = capsys.readouterr().err.splitlines()
    assert err[0].startswith("to generate: 8 items") and "(measured)" in err[0]
    assert "wrote nothing usable: story: 2 items" in err[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--recipe thesiss", "no recipe named 'thesiss'; did you mean 'thesis'?"),
        ("--recipe thesis --length-range 8000-1000", "must not be above the second"),
        ("--recipe thesis --length-range 8K-17K", "did you mean '8K-16K'?"),
        ("--recipe thesis --length-range long", "no length range named"),
        ("--recipe thesis --count 0", "--count 0: must be at least 1"),
        ("--recipe thesis --items 0", "--items 0: must be at least 1"),
        ("--recipe thesis --nouns missing.txt", "--nouns missing.txt: cannot be read"),
        ("--recipe thesis --nouns empty.txt", "no noun in it"),
        ("--recipe thesis --set story=3", "no option of recipe thesis named 'story'"),
        ("--recipe thesis --set story_tokens", "write OPTION=VALUE"),
        ("--recipe thesis --generator localhost", "write an address"),
        ("--recipe thesis --generator-model x", "give its address too"),
    ],
)
def test_bad_input_is_one_line(tiny_folder, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("\n\n")
    assert invoke(["synth", "--out", "o", "--model", str(tiny_folder), *words.split()]) == 2
    err = capsys.readouterr().err
    assert said in err and len(err.splitlines()) == 1
    assert not (tmp_path / "o").exists()


def test_help_is_light(capsys):
    import subprocess
    import sys

    code = (
        "import sys; from harness.cli import invoke; invoke(['synth', '--help'])\n"
        "print(sorted({'torch', 'transformers', 'wonderwords'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]" and "--length-range" in done.stdout


def test_the_default_nouns_are_a_list():
    from harness.synthesis.inputs import read_nouns

    assert len(read_nouns(None)) > 6000


def test_a_pool_counted_by_another_tokenizer_is_refused(tiny, tiny_folder, tmp_path):
    run(tiny, tmp_path / "a")
    other = loading.load(str(tiny_folder), device="cpu", chat="never")
    with pytest.raises(UsageError, match="made for another tokenizer"):
        make(other, tmp_path / "b", pool=tmp_path / "a" / "pool")
