"""The recipe `hierarchical`: counts, order and revisits of its dialogues, and what its questions are written from."""

import json
import random
import re
from collections import Counter

import pytest

from harness.contracts.recipe import Answer
from harness.errors import UsageError
from harness.tasks.synthetic.dialogues import Assembly
from harness.tasks.synthetic.hierarchical import Hierarchical
from harness.tasks.synthetic.hierarchical_options import HierarchicalOptions
from harness.tasks.synthetic.walks import _ECHO
from harness.training.rows import parse_row

from ..helpers.synthesizing import Script, make, run, story

SIZES = {"small": 64, "medium": 192, "summary_tokens": 40, "qa_tokens": 40, "window": 1024}


def books(path, count=4, sentences=30, title="Book"):
    rows = [
        {"title": title, "text": " ".join(story(f"book {n} {k}") for k in range(sentences // 8 + 1))}
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def options(path, **more):
    return {"documents": str(path), **SIZES, **more}


def lines(folder):
    return [json.loads(line) for line in (folder / "data.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny):
    folder = tmp_path_factory.mktemp("hierarchical")
    generator = Script()
    plan_options = options(books(folder / "books.jsonl"))
    card = run(
        tiny, folder / "out", recipe="hierarchical", count=3, generator=generator, options=plan_options
    )
    return folder, card, generator


def numbers(line):
    """For each exchange: (the document whose reading comes with it or None, the document asked about, its kind)."""
    users = [m["content"] for m in line["messages"][::2]]
    read = [re.match(r'Document (\d+) \("Book"\) begins\.\n', text) for text in users]
    asked = [int(re.search(r"About document (\d+): [^\n]*$", text)[1]) for text in users]
    return [(int(r[1]) if r else None, a, t["kind"]) for r, a, t in zip(read, asked, line["turns"])]


HIERARCHICAL = ("top", "section", "detail")


def test_counts_and_order_are_the_papers(made):
    folder, card, _ = made
    for line in lines(folder / "out"):
        assert line["documents"] == 4 and line["missing_questions"] == 0
        rows = numbers(line)
        starts = [i for i, (read, _, _) in enumerate(rows) if read]
        assert [rows[i][0] for i in starts] == [1, 2, 3, 4]
        for k, (start, end) in enumerate(zip(starts, [*starts[1:], len(rows)]), 1):
            block = rows[start:end]
            own, earlier = block[:10], block[10:]
            assert [kind for _, _, kind in own[:5]] == ["top", "section", "detail", "top", "section"]
            assert [kind for _, _, kind in own[5:]] == ["local", "multi_hop", "local", "multi_hop", "local"]
            assert {about for _, about, _ in own} == {k}
            if k == 1:
                assert not earlier
                continue
            about_earlier, revisits = earlier[:9], earlier[9:]
            assert all(kind in ("local", "multi_hop") and about < k for _, about, kind in about_earlier)
            assert len(revisits) % 3 == 0
            for at in range(0, len(revisits), 3):
                three = revisits[at : at + 3]
                assert len({about for _, about, _ in three}) == 1 and three[0][1] < k
                assert all(kind in HIERARCHICAL for _, _, kind in three)
            order = [about for _, about, _ in revisits[::3]]
            assert order == sorted(set(order)), "each earlier document at most once, in order"
    assert card["samples"]["documents"] == 12 and card["samples"]["missing_questions"] == 0


def test_no_question_is_asked_twice_and_none_before_its_document(made):
    folder, _, _ = made
    for line in lines(folder / "out"):
        seen = 0
        for read, about, _ in numbers(line):
            seen = max(seen, read or 0)
            assert about <= seen
        questions = [re.search(r"About document \d+: .*$", m["content"])[0] for m in line["messages"][::2]]
        assert len(set(questions)) == len(questions)


@pytest.mark.parametrize("number", [1, 2, 4])
def test_pairs_for_so_many_documents(made, tiny, number):
    """``10 K + 9 (K - 1)``, and three for each time an earlier document is gone back to."""
    folder, _, _ = made
    plan = make(tiny, folder / "out", recipe="hierarchical", count=3, options=options(folder / "books.jsonl"))
    chances = revisits = 0
    with plan.pool.open():
        for stage in plan.stages:
            plan.pool.load(stage, plan.generator.batch_size)
        o = HierarchicalOptions.parse({**options(folder / "books.jsonl"), "most_documents": number}, "x")
        recipe = plan.recipe
        for seed in range(1000 if number == 4 else 3):
            dialogue = Assembly(
                o, recipe.chunks, recipe._questions(0), plan.pool, random.Random(seed), 4
            ).make(None)
            assert dialogue.documents == number and dialogue.missing == 0
            fixed = 10 * number + 9 * (number - 1)
            more = len(dialogue.exchanges) - fixed
            assert more % 3 == 0
            revisits += more // 3
            chances += number * (number - 1) // 2
    if number == 4:
        assert chances == 6000 and 0.58 < revisits / chances < 0.62
    if number == 1:
        assert revisits == 0


def test_the_dialogue_holds_the_documents_and_says_where_its_evidence_is(made):
    folder, _, _ = made
    texts = {json.loads(row)["text"] for row in (folder / "books.jsonl").read_text().splitlines()}
    chunks = {r["i"]: r["text"] for r in map(json.loads, (folder / "out/pool/chunk.jsonl").read_text().splitlines())
              if "text" in r}  # fmt: skip
    for line in lines(folder / "out"):
        users = [m["content"] for m in line["messages"][::2]]
        bodies = {
            re.search(r"begins\.\n(.*)\nDocument \d+ \(\"Book\"\) ends", u, re.DOTALL)[1]
            for u in users
            if " begins." in u
        }
        assert bodies == texts
        whole = "".join(m["content"] for m in line["messages"])
        for turn in line["turns"]:
            found = [whole[slice(*span["chars"])] for span in turn["evidence"]]
            assert found and all(text in chunks.values() for text in found)
            assert all(span["tokens"][0] < span["tokens"][1] <= line["tokens"] for span in turn["evidence"])
        assert line["turns"][0]["read"] == users[0].index("About document 1:")
        assert parse_row(line, "line").later, "training reads it as a dialogue"
        count = line["prompt_tokens"] + line["answer_tokens"]
        assert line["tokens"] == count


def test_token_counts_are_the_tokenizers(made, tiny):
    folder, _, _ = made
    [line, *_] = lines(folder / "out")
    found = sum(
        len(tiny.tokenizer(m["content"], add_special_tokens=False)["input_ids"]) for m in line["messages"]
    )
    assert found == pytest.approx(line["tokens"], rel=0.03)


def test_no_request_is_longer_than_a_medium_chunk(made):
    _, _, generator = made
    stages = Counter(key.rsplit(" ", 1)[0] for key in generator.asked)
    assert {"chunk_summary", "section_summary", "global_summary", "top_question", "detail_question"} <= set(
        stages
    )
    assert not {s for s in stages if s.startswith("chunk") and s != "chunk_summary"}


def test_every_request_holds_what_its_kind_is_written_from(tmp_path, tiny):
    prompts = {}

    class Listening(Script):
        def answer(self, request, seed):
            prompts[request.key] = request.prompt
            return super().answer(request, seed)

    run(tiny, tmp_path / "o", recipe="hierarchical", count=1, generator=Listening(),
        options=options(books(tmp_path / "b.jsonl", 2)))  # fmt: skip
    pool = {
        name: {
            r["i"]: r for r in map(json.loads, (tmp_path / f"o/pool/{name}.jsonl").read_text().splitlines())
        }
        for name in ("chunk", "top", "section", "global_summary", "section_summary", "multi_hop")
    }
    above = pool["top"][0]
    assert (
        above["question"] in prompts["section_question 0"]
        and above["answer"] in prompts["section_question 0"]
    )
    assert pool["section"][0]["question"] in prompts["detail_question 0"]
    assert pool["global_summary"][0]["text"] in prompts["top_question 0"]
    hops = pool["multi_hop"][0]["chunks"]
    assert len(hops) == 3 and all(
        pool["chunk"][c]["text"].strip()[:60] in prompts["multi_hop_question 0"] for c in hops
    )
    most = max(len(tiny.tokenizer(p)["input_ids"]) for p in prompts.values())
    assert most < 1024


def test_a_kill_changes_no_byte(tmp_path, tiny):
    path = books(tmp_path / "b.jsonl", 3)
    run(tiny, tmp_path / "whole", recipe="hierarchical", count=2, options=options(path))

    class Killed(Script):
        def generate(self, requests, seed):
            if len(self.asked) > 60:
                raise KeyboardInterrupt
            return super().generate(requests, seed)

    with pytest.raises(KeyboardInterrupt):
        run(
            tiny, tmp_path / "torn", recipe="hierarchical", count=2, generator=Killed(), options=options(path)
        )
    run(tiny, tmp_path / "torn", recipe="hierarchical", count=2, options=options(path))
    for name in ("data.jsonl", "card.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "torn" / name).read_bytes()


def test_a_pool_of_other_documents_is_never_gone_on_with(tmp_path, tiny):
    path = books(tmp_path / "b.jsonl", 2)
    run(tiny, tmp_path / "o", recipe="hierarchical", count=1, options=options(path))
    moved = path.rename(tmp_path / "moved.jsonl")
    more = {"recipe": "hierarchical", "count": 1, "pool": tmp_path / "o/pool"}
    silent = Script()
    run(tiny, tmp_path / "again", generator=silent, options=options(moved), length="400-4000", **more)
    assert not silent.asked, "the same documents in another place, another length: nothing is generated"
    books(moved, 3)
    with pytest.raises(UsageError, match="was made from other documents") as caught:
        run(tiny, tmp_path / "other", options=options(moved), **more)
    assert "\n" not in str(caught.value)


def test_lengths_decide_the_number_of_documents(tmp_path, tiny):
    path = books(tmp_path / "b.jsonl", 6)
    found = {}
    for name, length in (("short", "1500-3500"), ("long", "6000-12000")):
        more = {} if name == "short" else {"pool": tmp_path / "short/pool"}
        run(
            tiny,
            tmp_path / name,
            recipe="hierarchical",
            count=4,
            length=length,
            options=options(path),
            **more,
        )
        low, high = map(int, length.split("-"))
        rows = lines(tmp_path / name)
        assert all(low <= row["tokens"] <= high for row in rows)
        found[name] = max(row["documents"] for row in rows)
    assert found["short"] < found["long"] <= 4
    with pytest.raises(UsageError, match="too short for dialogue, which takes about"):
        run(tiny, tmp_path / "tiny", recipe="hierarchical", count=1, length="10-20", options=options(path),
            pool=tmp_path / "short/pool")  # fmt: skip


@pytest.mark.parametrize("batch", [1, 4, 16])
def test_the_first_documents_make_a_pool_that_can_grow(tmp_path, tiny, batch):
    path = books(tmp_path / "b.jsonl", 4)
    more = {"recipe": "hierarchical", "options": options(path, most_documents=4)}
    run(tiny, tmp_path / "two", count=3, items=2, generator=Script(batch_size=batch), **more)
    assert {row["documents"] for row in lines(tmp_path / "two")} == {2}
    grown = Script(batch_size=batch)
    run(tiny, tmp_path / "four", count=1, items=4, pool=tmp_path / "two/pool", generator=grown, **more)
    [row] = lines(tmp_path / "four")
    assert row["documents"] == 4 and grown.asked


def test_variants_of_the_paper(tmp_path, tiny):
    path = books(tmp_path / "b.jsonl", 4)
    run(
        tiny,
        tmp_path / "o",
        recipe="hierarchical",
        count=6,
        options=options(path, fixed="false", order="shuffled"),
    )
    firsts, blocks = set(), set()
    for line in lines(tmp_path / "o"):
        rows = numbers(line)
        second = next(i for i, (read, _, _) in enumerate(rows) if read == 2)
        blocks.add(second)
        firsts.add(rows[0][2])
    assert len(blocks) > 1 and max(blocks) <= 10, "numbers drawn from 1 to N"
    assert len(firsts) > 1, "not always the top of a walk first"
    run(tiny, tmp_path / "plain", recipe="hierarchical", count=1,
        options=options(path, revisit=0, probability=0, follow_up=0))  # fmt: skip
    [line] = lines(tmp_path / "plain")
    assert len(line["turns"]) == 40


def test_what_is_lacking_is_counted(tmp_path, tiny):
    path = books(tmp_path / "b.jsonl", 2)
    generator = Script(say={"local_question": Answer("", True, 0)})
    card = run(
        tiny, tmp_path / "o", recipe="hierarchical", count=1, generator=generator, options=options(path)
    )
    [line] = lines(tmp_path / "o")
    kinds = Counter(turn["kind"] for turn in line["turns"])
    assert kinds["local"] == 0 and line["missing_questions"] > 0
    assert card["samples"]["missing_questions"] == line["missing_questions"]
    assert card["pool"]["stages"]["local_question"]["dropped"]["empty"] > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"medium": 64, "small": 128}, "medium=64 is less than small=128"),
        (
            {"medium": 2000, "window": 1024},
            r"the summary of a medium chunk takes 2,160 .* 2,200 in all, more than window",
        ),
        ({"hierarchical": 0, "diverse": 0}, "ask nothing after a document"),
    ],
)
def test_sizes_that_cannot_be_are_one_line(tmp_path, change, message):
    values = options(books(tmp_path / "b.jsonl", 1), **change)
    with pytest.raises(UsageError, match=message) as caught:
        Hierarchical(HierarchicalOptions.parse(values, "recipe hierarchical"))
    assert "\n" not in str(caught.value)


def test_a_generator_that_reads_too_little_is_refused_before_it_starts(tmp_path, tiny):
    generator = Script()
    generator.window = 256
    with pytest.raises(
        UsageError, match=r"takes up to 352 tokens and 40 of answer, 392 in all; the generator reads 256"
    ):
        run(
            tiny,
            tmp_path / "o",
            recipe="hierarchical",
            generator=generator,
            options=options(books(tmp_path / "b.jsonl")),
        )
    assert not generator.asked and not (tmp_path / "o").exists()


def test_documents_must_be_given(tiny, tmp_path):
    with pytest.raises(UsageError, match="give its documents"):
        make(tiny, tmp_path / "o", recipe="hierarchical", options=dict(SIZES))
    with pytest.raises(UsageError, match="there are only 2 documents"):
        make(
            tiny,
            tmp_path / "o",
            recipe="hierarchical",
            items=3,
            options=options(books(tmp_path / "b.jsonl", 2)),
        )


PASSAGE = (
    "Emma Woodhouse lived at Hartfield. The Debian project named release 2.2 after a toy; it holds 18 parts."
)


@pytest.mark.parametrize(
    ("question", "echo"),
    [
        ("What is the text answer to this question?", True),
        ("Can you write a question that only the original text answers?", True),
        ("Which specific question about Debian can only be answered by somebody with the text?", True),
        ("What is a summary of the document?", True),
        ("What was this text about?", True),
        ("What is a simple answer about Emma?", True),
        ("After what was a release of the Debian project named?", False),
        ("What does the document as a whole say about Emma and Hartfield?", False),
        ("How many parts does the release hold?", False),
    ],
)
def test_questions_about_the_request_are_told_from_those_about_the_passage(question, echo):
    assert _ECHO.is_question(question, PASSAGE) is echo


def test_words_of_the_asker_may_be_the_passages():
    assert not _ECHO.is_question(
        "Why did Emma give you no answer?", f"{PASSAGE} 'I give you my answer,' said Emma."
    )


@pytest.mark.parametrize(
    "written",
    [
        "What is the text answer to this question?",
        " What did keeper 3 find near the harbour?\n\nAnswer: A lamp that goes on from there into the details.",
    ],
)
def test_what_is_about_the_request_is_in_no_dialogue(tmp_path, tiny, written):
    generator = Script(say={"local_question": written})
    card = run(
        tiny, tmp_path / "o", recipe="hierarchical", count=1, generator=generator,
        options=options(books(tmp_path / "b.jsonl", 2)),
    )  # fmt: skip
    stages = card["pool"]["stages"]
    assert stages["local_question"]["usable"] == 0
    assert set(stages["local_question"]["dropped"]) == {"about the request", "not asked"}
    assert "about the request" not in stages["multi_hop_question"]["dropped"]
    assert all(turn["kind"] != "local" for line in lines(tmp_path / "o") for turn in line["turns"])
