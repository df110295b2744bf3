"""The recipe `selflong`: what is found, noted down and kept out of samples; and texts written on demand."""

import json
import random
import re
import shutil
import sys
from collections import Counter
from types import SimpleNamespace

import pytest

from harness.contracts.recipe import Answer, Draw, NoItems
from harness.errors import UsageError
from harness.tasks.synthetic import retrieval
from harness.tasks.synthetic.filling import in_turn
from harness.tasks.synthetic.notes import Notes
from harness.tasks.synthetic.selflong import SelfLong, _instruction
from harness.tasks.synthetic.selflong_options import SelfLongOptions
from harness.training.rows import parse_row

from ..helpers.synthesizing import Script, make, run, story

SIZES = {
    "chunk_tokens": 64, "seed_tokens": 16, "read_tokens": 512, "instruction_tokens": 24, "summary_tokens": 24,
    "response_tokens": 40, "output_range": "40-2000", "window": 512,
}  # fmt: skip
TOPICS = ("lighthouse", "glacier", "violin", "harvest", "submarine", "orchard")


def collection(path, count=18):
    rows = [
        {"title": f"T{n}", "text": f"About {TOPICS[n % 6]} and {TOPICS[n % 6]}s. " + story(f"paper {n}", 6)}
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class Writer(Script):
    """Answers every stage of `selflong`, and keeps what it was asked."""

    def __init__(self, **more):
        super().__init__(**more)
        self.prompts = {}

    def usual(self, stage, index, seed, prompt):
        self.prompts[f"{stage} {index}"] = prompt
        topic = TOPICS[int(index) % 6]
        if stage == "instruction":
            return f"Compare what several papers {index} say about the {topic} and its keeper."
        if stage.startswith("notes"):
            return f"NOTE{stage[-1]} {index} says a keeper found a lamp in that year."
        if stage == "response":
            return f"RESPONSE {index}: all papers agree that a keeper found a lamp."
        return f"Describe how keeper {index} found so many lamps, year by year."


def options(path, **more):
    return {"documents": str(path), **SIZES, **more}


def lines(folder, name="data.jsonl"):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny):
    folder = tmp_path_factory.mktemp("selflong")
    generator = Writer()
    path = collection(folder / "c.jsonl")
    card = run(tiny, folder / "out", recipe="selflong", count=16, generator=generator, options=options(path))
    return folder, card, generator


def test_both_tasks_in_the_papers_proportion(made):
    _, card, _ = made
    assert card["samples"]["made"] == {"long_input": 14, "long_output": 2}
    assert set(card["sources"]) == {"documents", "retriever"}
    assert card["sources"]["retriever"]["kind"] == "bm25" and card["sources"]["retriever"]["bm25s"]


def test_the_random_chunk_is_in_every_instruction_prompt_and_in_no_sample(made):
    folder, _, generator = made
    chunks = [r["text"].strip()[:10] for r in lines(folder / "out/pool", "chunk.jsonl") if "text" in r]
    asked = [p for k, p in generator.prompts.items() if k.startswith("instruction")]
    assert len({p.split("\n\n")[1] for p in asked}) > 4, "they differ"
    assert all(any(chunk in p for chunk in chunks) for p in asked)
    for row in lines(folder / "out"):
        assert "random piece" not in row["prompt"]


def test_what_is_found_is_about_the_instruction(made):
    folder, _, _ = made
    instructions = {r["i"]: r["text"] for r in lines(folder / "out/pool", "instruction.jsonl")}
    for record in lines(folder / "out/pool", "retrieved.jsonl"):
        topic = re.search("|".join(TOPICS), instructions[record["i"]])[0]
        assert {TOPICS[d % 6] for d in record["documents"][:3]} == {topic}
        assert 1 <= record["read"] <= len(record["documents"])


def test_a_sample_is_documents_then_the_instruction_and_no_notes(made):
    folder, _, generator = made
    for row in lines(folder / "out"):
        if row["task"] != "long_input":
            continue
        head, context, suffix = (row["prompt"][slice(*row[name])] for name in ("prefix", "context", "suffix"))
        assert head == "" and suffix == row["question"] and suffix.startswith("Compare what")
        assert "NOTE" not in row["prompt"] + row["answer"]
        assert row["answer"].startswith("all papers agree")
        numbers = [int(n) for n in re.findall(r"^Document (\d+) \(T\d+\):$", context, re.M)]
        assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) == row["passages"]
        assert row["evidence"] and row["learn"] == "all" and parse_row(row, "x").learn_all
    assert all("NOTE" in p for k, p in generator.prompts.items() if k.startswith("response"))


def test_a_long_output_names_its_length(made):
    folder, _, _ = made
    texts = {json.loads(line)["text"] for line in (folder / "c.jsonl").read_text().splitlines()}
    rows = [row for row in lines(folder / "out") if row["task"] == "long_output"]
    for row in rows:
        assert row["answer"] in texts
        asked = row["facts"]["asked_words"]
        assert row["prompt"].endswith(f"Write about {asked} words.")
        assert asked == pytest.approx(len(row["answer"].split()), rel=0.06)
        assert "learn" not in row and not parse_row(row, "x").learn_all


def test_no_request_exceeds_the_window_and_recursion_ends(tmp_path, tiny):
    generator = Writer()
    long = {"read_tokens": 4096, "summary_tokens": 60, "window": 400, "response_tokens": 40}
    run(tiny, tmp_path / "o", recipe="selflong", count=4, generator=generator,
        options=options(collection(tmp_path / "c.jsonl", 60), **long))  # fmt: skip
    levels = sorted({k.split()[0] for k in generator.prompts if k.startswith("notes")})
    assert len(levels) >= 3
    limits = {"instruction": 24, "writing": 24, "response": 40}
    for key, prompt in generator.prompts.items():
        # What the script writes is longer in the tiny tokenizer than its limit; only our own words count here.
        words = re.sub(r"- NOTE.*\n?|Instruction: .*", "", prompt)
        assert len(tiny.tokenizer(words)["input_ids"]) + limits.get(key.split()[0], 60) <= 400, key
        assert prompt.count("- NOTE") <= SelfLong(SelfLongOptions.parse(
            options(tmp_path / "c.jsonl", **long), "x")).fan  # fmt: skip


def test_levels_shrink_until_one_request_reads_all():
    widths = Notes(None, None, 270, 8, 1, 1).widths
    assert widths == [270, 34, 5]
    assert Notes(None, None, 3, 8, 1, 1).widths == [3]


def test_nothing_relevant_is_an_empty_note(tmp_path, tiny):
    generator = Writer(say={"notes_1": lambda i: "nothing" if i % 2 else "A keeper found a lamp."})
    run(tiny, tmp_path / "o", recipe="selflong", count=4, generator=generator,
        options=options(collection(tmp_path / "c.jsonl")))  # fmt: skip
    notes = [r for r in lines(tmp_path / "o/pool", "notes_1.jsonl") if "text" in r]
    assert {r["text"] for r in notes} == {"", "A keeper found a lamp."}
    all_empty = Writer(say={"notes_1": "Nothing."})
    card = run(tiny, tmp_path / "e", recipe="selflong", count=4, generator=all_empty,
               options=options(collection(tmp_path / "c.jsonl")))  # fmt: skip
    assert card["samples"]["made"]["long_input"] == 0, "no note, no response"


def test_longer_samples_go_down_the_ranking_and_generate_nothing(made, tiny, tmp_path):
    folder, _, _ = made
    silent = Writer()
    more = {"generator": silent, "pool": folder / "out/pool", "options": options(folder / "c.jsonl")}
    run(tiny, tmp_path / "o", recipe="selflong", count=8, length="2500-3000", **more)
    assert not silent.asked
    rows = [row for row in lines(tmp_path / "o") if row["task"] == "long_input"]
    assert all(2500 <= row["tokens"] <= 3000 for row in rows)
    with pytest.raises(UsageError, match="too short for long_input"):
        run(tiny, tmp_path / "s", recipe="selflong", count=8, length="10-60", **more)


def test_a_kill_changes_no_byte(tmp_path, tiny):
    path = collection(tmp_path / "c.jsonl")

    class Killed(Writer):
        def generate(self, requests, seed):
            if len(self.asked) > 30:
                raise KeyboardInterrupt
            return super().generate(requests, seed)

    run(tiny, tmp_path / "whole", recipe="selflong", count=6, generator=Writer(), options=options(path))
    with pytest.raises(KeyboardInterrupt):
        run(tiny, tmp_path / "torn", recipe="selflong", count=6, generator=Killed(), options=options(path))
    run(tiny, tmp_path / "torn", recipe="selflong", count=6, generator=Writer(), options=options(path))
    for name in ("data.jsonl", "card.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "torn" / name).read_bytes()


def test_another_retriever_is_another_pool(made, tiny, tmp_path):
    folder, _, _ = made
    more = {"generator": Writer(), "pool": folder / "out/pool", "recipe": "selflong", "count": 4}
    with pytest.raises(UsageError, match="was made from another retriever"):
        run(tiny, tmp_path / "o", options=options(folder / "c.jsonl", retriever="random"), **more)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": 256}, "a note on a chunk takes 228 tokens and 24 of answer|more than window"),
        (
            {"chunk_tokens": 600},
            r"a note on a chunk takes 764 tokens and 24 of answer, 788 in all, more than window=512",
        ),
        ({"response_tokens": 400}, "a response from two notes takes 224 tokens and 400 of answer"),
        ({"output_range": "9-3"}, "LOW-HIGH"),
    ],
)
def test_sizes_that_cannot_be_are_one_line(tmp_path, change, message):
    path = collection(tmp_path / "c.jsonl", 2)
    if change == {"window": 256}:
        change = {"window": 256, "chunk_tokens": 128}
    with pytest.raises(UsageError, match=message) as caught:
        SelfLong(SelfLongOptions.parse(options(path, **change), "recipe selflong"))
    assert "\n" not in str(caught.value)


def test_a_generator_that_reads_too_little_is_refused_before_it_starts(tmp_path, tiny):
    generator = Writer()
    generator.window = 128
    with pytest.raises(UsageError, match="the generator reads 128"):
        make(tiny, tmp_path / "o", recipe="selflong", generator=generator,
             options=options(collection(tmp_path / "c.jsonl")))  # fmt: skip
    assert not generator.asked


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("", "empty"),
        ("Compare.", "too short"),
        ("I'll provide instructions that will focus on editing and feedback.", "about the request"),
        ("Use any document you like. Do not mention the piece above.", "about the request"),
        ("Compare what they say and " * 20, "repetitive"),
        (Answer("Compare what several papers say about", False, 24), "truncated"),
    ],
)
def test_what_is_no_instruction_is_dropped_with_its_reason(written, reason):
    answer = written if isinstance(written, Answer) else Answer(written, True, 9)
    assert _instruction(0, None, answer).reason == reason
    kept = _instruction(0, None, Answer('Instruction: "List the lamps of several towns."', True, 9))
    assert kept == {"text": "List the lamps of several towns."}


def test_each_response_is_used_once_before_any_again(made, tiny, tmp_path):
    folder, _, _ = made
    more = {"generator": Writer(), "pool": folder / "out/pool", "recipe": "selflong"}
    run(tiny, tmp_path / "o", count=60, options=options(folder / "c.jsonl"), **more)
    rows = [json.loads(line) for line in (tmp_path / "o" / "data.jsonl").read_text().splitlines()]
    for task in ("long_input", "long_output"):
        used = Counter(row["prompt"][slice(*row["suffix"])] for row in rows if row["task"] == task)
        if task == "long_output":
            used = Counter(row["answer"] for row in rows if row["task"] == task)
        assert len(used) > 2 and max(used.values()) - min(used.values()) <= 1, used


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_in_turn_is_a_permutation_and_goes_elsewhere_after_a_failure(size):
    drawn = []
    for number in range(2 * size):
        rng = Draw(str(number))
        rng.number = number
        drawn.append(in_turn(rng, range(size), "seed"))
    assert sorted(drawn[:size]) == list(range(size)) and drawn[size:] == drawn[:size]
    assert size < 100 or drawn[:size] != sorted(drawn[:size])
    rng.attempt = 1
    assert in_turn(rng, range(size), "seed") in range(size)
    with pytest.raises(NoItems):
        in_turn(rng, [], "seed")


# --- the retriever


def test_bm25_ranks_as_rank_bm25_does_and_finds_the_planted_document():
    texts = [story(f"x {n}", 3) for n in range(200)]
    texts[77] += " The marmalade zeppelin landed."
    found = retrieval.Bm25(texts)
    assert found.search("Where did the zeppelin with marmalade land?", 5)[0] == 77
    assert found.search("quux", 5) == [] and found.search("", 5) == []
    assert found.search("keeper found a lamp", 7) == found.search("keeper found a lamp", 50)[:7]
    small = retrieval.Bm25(texts[:20])
    assert len(small.search("keeper", 100)) <= 20


def test_bm25_finds_documents_without_blanks():
    found = retrieval.Bm25(["北京是中国的首都，人口众多。", "小明的密码是四二一七，请记住。", "广州在南方。"])
    assert found.search("他的密码是什么", 2)[0] == 1


def test_the_best_are_those_a_stable_sort_finds():
    import numpy as np

    source = random.Random(0)
    scores = np.array([source.choice([0.0, 1.0, 2.0, 3.0]) for _ in range(500)])
    expected = np.argsort(-scores, kind="stable")[:40]
    assert retrieval._best(scores, 40).tolist() == expected.tolist()


def test_random_is_the_same_for_the_same_query():
    found = retrieval.make("random", [], 30, 1, "")
    assert found.search("a", 5) == found.search("a", 5) != found.search("b", 5)
    assert len(found.search("a", 90)) == 30


def test_dense_needs_its_package_and_ranks_by_cosine(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(UsageError, match=r"pip install 'long-context-harness\[dense\]'"):
        retrieval.facts("dense", "m")
    import numpy as np

    class Model:
        def __init__(self, name):
            assert name == "m"

        def encode(self, texts, normalize_embeddings, show_progress_bar):
            rows = np.array([[text.count("a"), text.count("b")] for text in texts], dtype=float)
            return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    fake = SimpleNamespace(SentenceTransformer=Model, __version__="9")
    monkeypatch.setitem(sys.modules, "sentence_transformers", fake)
    assert retrieval.facts("dense", "m") == {"kind": "dense", "sentence-transformers": "9", "model": "m"}
    assert retrieval.make("dense", ["bb", "ab", "aa"], 3, 0, "m").search("aaab", 2) == [2, 1]


def test_dense_by_a_model_in_a_folder(tmp_path):
    """The library itself: words that no other text has bring a text to the front; the model is known by its files."""
    embeddings = pytest.importorskip("sentence_transformers")
    import torch
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    texts = [story(f"x {n}", 3) for n in range(30)]
    texts[13] = "A marmalade zeppelin landed on the roof."
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(texts, trainers.WordLevelTrainer(special_tokens=["[UNK]", "[PAD]"]))
    folder, moved = tmp_path / "model", tmp_path / "elsewhere"
    torch.manual_seed(0)
    embeddings.SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=64)], device="cpu").save(
        str(folder)
    )
    found = retrieval.make("dense", texts, len(texts), 0, str(folder))
    assert found.search("Where did the zeppelin with marmalade land?", 3)[0] == 13
    assert found.search(texts[5], 2)[0] == 5
    shutil.copytree(folder, moved)
    first = retrieval.facts("dense", str(folder))
    assert first["sentence-transformers"] == embeddings.__version__ and first["model"].startswith("sha256:")
    assert retrieval.facts("dense", str(moved)) == first, "the same model in another place"
    (moved / "README.md").write_text("another")
    assert retrieval.facts("dense", str(moved)) != first
    with pytest.raises(UsageError, match="no model of sentence-transformers"):
        (tmp_path / "empty").mkdir()
        retrieval.make("dense", texts, len(texts), 0, str(tmp_path / "empty"))
