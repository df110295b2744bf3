"""HELMET: its words, its draws of examples and numbers, its scores; what a judge gives stays out."""

import json

import numpy as np
import pytest

from harness import UsageError
from harness.evaluation.task_environment import task_environment
from harness.tasks.helmet import JUDGED, Helmet, demos, long_documents, scoring, without_last
from harness.tasks.helmet.prompts import TEMPLATES
from harness.tasks.helmet.reading import Reader

from ..helpers.official import environment, run_on, write_rows


def task(name, **options):
    return Helmet(Helmet.Options(**options), f"helmet/{name}", name)


def kilt(number, **changes):
    ctxs = [{"id": str(i), "title": f"T{i}", "text": f"Text {i} of {number}."} for i in range(2)]
    base = {"id": f"q{number}", "question": f"Who is {number}?", "answers": [f"N{number}", "x"], "ctxs": ctxs}
    return {**base, "s_pop": 10, "depth": 0.5, **changes}


def write_kilt(folder, *rows, name="nq-dev-multikilt_1000_k20_dep6", demo="nq-train-multikilt_1000_k3_dep6"):
    write_rows(folder / "data" / "kilt" / f"{name}.jsonl", *rows)
    write_rows(
        folder / "data" / "kilt" / f"{demo}.jsonl", *[kilt(n) for n in range(50, 56) for _ in range(2)]
    )


def samples(tiny, folder, name, **options):
    return list(
        task(name, lengths=[4096], **options).samples(task_environment(tiny, data_dir=folder, offline=True))
    )


def test_a_rag_prompt_is_asked_without_template_and_begins_the_answer(tiny, tmp_path):
    write_kilt(tmp_path, kilt(1))
    [sample] = samples(tiny, tmp_path, "kilt_nq")
    order = np.random.default_rng(demos.hashed("q1")).permutation(12)
    first, second = list(dict.fromkeys(50 + i // 2 for i in order))[:2]

    def demo(n):
        passages = "\n\n".join(f"Document (Title: T{i}): Text {i} of {n}." for i in range(2))
        return f"{passages}\n\nQuestion: Who is {n}?\n"

    assert sample.prompt.text == (
        "Use the given documents to write a concise and short answer to the question. Write your answer in the "
        f"following format:\nAnswer: [answer]\n\n{demo(first)}Answer: N{first}\n\n{demo(second)}Answer: N{second}\n\n"
        f"{demo(1).rstrip()}"
    )
    assert sample.prompt.context == "Document (Title: T0): Text 0 of 1.\n\nDocument (Title: T1): Text 1 of 1."
    assert (sample.chat, sample.answer_prefix, sample.new_tokens) == (False, "\nAnswer:", 20)
    assert sample.metadata == {"length": 4096, "prefix": "Answer:", "depth": 50}
    [chatty] = samples(tiny, tmp_path, "kilt_nq", chat="always")
    assert (chatty.chat, chatty.answer_prefix) == (True, "") and "prefix" not in chatty.metadata
    [alone] = samples(tiny, tmp_path, "kilt_nq", shots=0)
    assert "Who is 5" not in alone.prompt.text


def test_popqa_leaves_out_what_is_well_known_and_the_question_itself(tiny, tmp_path):
    files = {"name": "popqa_test_1000_k20_dep6", "demo": "popqa_test_1000_k3_dep6"}
    write_kilt(tmp_path, kilt(50), kilt(2, s_pop=1000), **files)
    [sample] = samples(tiny, tmp_path, "kilt_popqa_3")
    assert sample.prompt.text.count("Who is 50?") == 1 and sample.references == ("N50", "x")


def test_rankings_are_shown_by_relevance(tiny, tmp_path):
    ctxs = [{"id": str(10 + i), "text": f"P{i}", "label": label} for i, label in enumerate((0, 2, 2, 3))]
    row = {"qid": "a", "query": "what", "ctxs": ctxs}
    folder = tmp_path / "msmarco"
    write_rows(folder / "test_reranking_data_k14_dep3.jsonl", row)
    write_rows(folder / "test_reranking_data_k10_dep3.jsonl", row, {**row, "qid": "b", "query": "demo"})
    [sample] = samples(tiny, tmp_path, "msmarco_rerank_psg")
    assert sample.prompt.prefix.endswith(
        "[ID: 10] Document: P0\n\n[ID: 11] Document: P1\n\n[ID: 12] Document: P2\n\n[ID: 13] Document: P3\n\n"
        "Query: demo\nRanking: 13 > 11 > 12 > 10\n\n"
    ), "the question's own row is no example"
    assert task("msmarco_rerank_psg").score(sample, " 13 > 11 > 12")["score"] == 1


def test_every_question_of_icl_has_its_own_numbers(tiny, tmp_path):
    write_rows(
        tmp_path / "icl" / "trec_coarse_train.jsonl", *[{"text": f"t{i}", "label": i % 6} for i in range(30)]
    )
    write_rows(
        tmp_path / "icl" / "trec_coarse_test.jsonl", {"text": "one", "label": 2}, {"text": "two", "label": 2}
    )
    first, second = samples(tiny, tmp_path, "icl_trec_coarse")
    assert first.prompt.text.startswith(
        'Use the provided mapping from the text to label to assign a label to the text. Only output "label: {label}" '
        "and nothing else. \n\nt"
    )
    assert first.references != second.references or first.prompt.context != second.prompt.context
    shown = [block.split("\nlabel: ") for block in first.prompt.context.split("\n\n")]
    assert len(shown) == 200
    same = {number for text, number in shown if int(text[1:]) % 6 == 2}
    assert same == {first.references[0]}, "one number for each label"
    for start in range(0, 198, 6):
        assert len({number for _, number in shown[start : start + 6]}) == 6, "each label once a round"
    write_rows(tmp_path / "icl" / "trec_coarse_test.jsonl", {"text": "one", "label": 6})
    with pytest.raises(UsageError, match="line 1: label 6 is none of 0 to 5"):
        samples(tiny, tmp_path, "icl_trec_coarse")


def test_other_kinds_of_icl_are_run_by_name(tiny, tmp_path):
    rows = [{"text": f"t{i}", "label": i % 6, "label_name": f"L{i % 6}"} for i in range(30)]
    write_rows(tmp_path / "icl" / "trec_coarse_train.jsonl", *rows)
    write_rows(tmp_path / "icl" / "trec_coarse_test.jsonl", {"text": "one", "label": 2, "label_name": "L2"})
    [named] = samples(tiny, tmp_path, "icl_trec_coarse_named")
    [table] = samples(tiny, tmp_path, "icl_trec_coarse")
    texts = [[b.split("\nlabel: ") for b in s.prompt.context.split("\n\n")] for s in (named, table)]
    assert [t for t, _ in texts[0]] == [t for t, _ in texts[1]] and named.references == ("L2",)
    assert all(label == f"L{int(text[1:]) % 6}" for text, label in texts[0])
    [anywhere] = samples(tiny, tmp_path, "icl_trec_coarse_any")
    drawn = [block.split("\n")[0] for block in anywhere.prompt.context.split("\n\n")]
    order = np.random.RandomState(demos.own_seed("one")).permutation(30)
    assert drawn == [f"t{place}" for place in order] and anywhere.references == table.references
    both = samples(tiny, tmp_path, "icl_trec_coarse_any_named")[0]
    assert both.prompt.context.startswith(f"{drawn[0]}\nlabel: L") and both.references == ("L2",)
    assert task("icl_trec_coarse_any").score(anywhere, anywhere.references[0])["score"] == 1
    assert "icl_trec_coarse_any" not in Helmet.group and "icl_trec_coarse_any" in Helmet.variants


def test_keys_and_needles(tiny, tmp_path):
    row = {
        "context": '{"a": "b"}',
        "question": "a",
        "answer": "b",
        "demos": [["c", "d"], ["e", "f"], ["g", "h"]],
    }
    write_rows(tmp_path / "json_kv" / "test_k50_dep6.jsonl", row)
    [sample] = samples(tiny, tmp_path, "json_kv")
    assert sample.prompt.text == (
        '{"a": "b"}\n\nExtract the value corresponding to the specified key in the JSON object below.\n\n'
        "Key: c\nCorresponding value: d\n\nKey: e\nCorresponding value: f\n\nKey: a"
    )
    needle = {
        "context": "One of {query} is 1.",
        "query": "red",
        "answer": ["1", "2"],
        "type_needle_v": "numbers",
    }
    write_rows(tmp_path / "ruler" / "niah_multivalue" / "validation_4096.jsonl", needle)
    [sample] = samples(tiny, tmp_path, "ruler_niah_mv")
    assert sample.prompt.text.endswith(
        "afterwards.\nOne of {query} is 1.\nWhat are all the special magic numbers for red mentioned in the provided "
        "text?"
    ), "a place in the text is no place of the template"
    assert sample.answer_prefix == "\nThe special magic numbers for red mentioned in the provided text are"
    assert task("ruler_niah_mv").score(sample, " 2")["score"] == 0.5


def test_citing_needs_the_official_examples_or_none(tiny, tmp_path):
    docs = [{"title": f"T{i}", "text": f"D{i}"} for i in range(9)]
    row = {
        "question": "Why?",
        "docs": docs,
        "qa_pairs": [{"short_answers": ["two"]}, {"short_answers": ["D1"]}],
    }
    (tmp_path / "alce").mkdir()
    (tmp_path / "alce" / "asqa_eval_gtr_top2000.json").write_text(json.dumps([row]), encoding="utf-8")
    with pytest.raises(UsageError, match=r"its examples come from .*asqa_revised.json.*set helmet.shots=0"):
        samples(tiny, tmp_path, "alce_asqa")
    [sample] = samples(tiny, tmp_path, "alce_asqa", shots=0)
    assert sample.chat and sample.prompt.text.startswith("Instruction: Write an accurate, engaging")
    assert sample.prompt.context.endswith("Document [8](Title: T7): D7"), "eight of nine at the first length"
    assert task("alce_asqa").score(sample, "d1 [1][2] and\nthree")["score"] == 0.5
    told = {"instruction": "Do.", "demos": [{"question": "Q", "answer": "A [1].", "docs": docs[:1]}] * 2}
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "asqa_revised.json").write_text(json.dumps(told), encoding="utf-8")
    [sample] = samples(tiny, tmp_path, "alce_asqa", shots=1)
    assert sample.prompt.prefix == (
        "Do.\n\nQuestion: Q\n\nDocument [1](Title: T0): D0\n\nAnswer: A [1].\n\n\nDo.\n\nQuestion: Why?\n\n"
    )


def test_long_documents_are_cut_and_say_so(tiny, tmp_path):
    rows = [
        {
            "id": i,
            "context": "word " * 5000,
            "input": f"Q{i}?",
            "answer": ["red"],
            "options": ["blue", "red", "b", "c"],
        }
        for i in range(3)
    ]
    write_rows(tmp_path / "infbench" / "longbook_choice_eng.jsonl", *rows)
    reader = Reader(
        environment(tmp_path, Words()), "helmet/infbench_choice_eng", lambda name, fingerprint: None
    )
    found = list(long_documents.long_documents("infbench_choice_eng", 4096, 2, reader))
    assert {each[0] for each in found} == {"0", "1", "2"}
    _, context, given, answers = found[0]
    assert (
        context.endswith(" ... [the rest of the text is omitted]") and len(context.split()) == 4096 - 210 - 1
    )
    assert given["options"] == "A. blue\nB. red\nC. b\nD. c" and answers == ("B", "B. red")
    assert given["demos"].count("[story text]\nQuestion: Q") == 2
    assert given["demos"].endswith(
        "Options:\nA. blue\nB. red\nC. b\nD. c\nAnswer: B\n\nNow, read the following story:\n\n"
    )
    prompt = TEMPLATES["infbench_choice_eng"].render(context, given)
    assert prompt.text.endswith(f"omitted]\n\nQuestion: {given['question']}\nOptions:\n{given['options']}")
    assert samples(tiny, tmp_path, "infbench_choice_eng")[0].metadata["cut_tokens"] > 0, (
        "counted with the template"
    )


class Words:
    """One token for each word, after a first token that stands for nothing."""

    def __call__(self, text, return_offsets_mapping=False):
        spans, at = [(0, 0)], 0
        for word in text.split():
            at = text.index(word, at)
            spans.append((at, at + len(word)))
            at += len(word)
        return {"input_ids": spans, "offset_mapping": spans}


def test_both_cuts_end_where_the_official_ones_do():
    text = " ".join(f"w{i}" for i in range(60))
    assert long_documents.cut_to(text, 25, Words()) == " ".join(f"w{i}" for i in range(16)) + (
        " ... [the rest of the text is omitted]"
    )
    assert long_documents.cut_to(text, 61, Words()) == text
    assert without_last("w0 w1 w2 w3", 2, Words()) == "w0 w1 "
    with pytest.raises(UsageError, match="over the length"):
        without_last("w0 w1", 3, Words())


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("Answer: Paris", "Paris"),
        ("So:\nANSWER:  Paris \nRome", "Paris"),
        ("answer: Answer: Paris", "Paris"),
        ("Paris\nRome", "Paris"),
        ("", ""),
    ],
)
def test_an_answer_is_what_follows_its_name(output, said):
    assert scoring.parsed(output) == said


@pytest.mark.parametrize(
    ("output", "order"),
    [
        ("Ranking: ID3 > ID1 > ID3", {"3": 3, "1": 2}),
        ("[ID: 3] > [ID: 1]", {"3": 2, "1": 1}),
        ("12 then 3 > 4", {"3": 2, "4": 1}),
        ("No idea", {"no ea": 1}),
    ],
)
def test_a_ranking_is_the_longest_row_of_numbers(output, order):
    assert scoring.ranking(output) == order


def test_ndcg_by_hand():
    labels = {"a": 3, "b": 1}
    labels = {"1": 3, "2": 1}
    ideal = 3 + 1 / np.log2(3)
    assert scoring.ndcg("2 > 1", labels, 12)["NDCG@10"] == round((1 + 3 / np.log2(3)) / ideal, 5)
    assert scoring.ndcg("9 > 1", labels, 12)["NDCG@1"] == 0
    assert list(scoring.ndcg("1", labels, 6)) == ["NDCG@1", "NDCG@5"]
    assert scoring.headline(scoring.ndcg("1 > 2", labels, 6)) == 1


@pytest.mark.parametrize(
    ("name", "row", "prediction", "score"),
    [
        ("kilt_nq", {"answers": ["The Nile"]}, "nile, of course", 1),
        ("kilt_nq", {"answers": ["The"]}, "anything", 1),
        ("icl_nlu", {"answers": ["3"]}, "label: 3.", 1),
        ("icl_nlu", {"answers": ["3"]}, "label: 13", 0),
        ("icl_nlu", {"answers": ["3"], "prefix": "label:"}, " 3\nlabel: 4", 1),
        ("infbench_choice_eng", {"answers": ["B", "B. red"]}, "It is b. RED", 1),
        ("infbench_choice_eng", {"answers": ["B", "B. red"]}, "Bed", 0),
        ("msmarco_rerank_psg", {"answers": {"7": 1}}, "ID7", 1),
        ("alce_qampari", {"answers": [["G"], ["B"], ["C"], ["D"], ["E"], ["F"]]}, "g [1], b, x.", 2 / 5),
        ("json_kv", {"answer": "abc"}, "Corresponding value: abc\nKey: d", 1),
        ("ruler_niah_mk_2", {"answers": ["77"]}, "it is 1770", 1),
    ],
)
def test_scores(name, row, prediction, score):
    found = task(name).score(Helmet.sample_from_row(name, row), prediction)
    assert found["score"] == pytest.approx(score) and all(0 <= value <= 1 for value in found.values())


def test_averages_say_what_they_leave_out():
    means = dict.fromkeys(TEMPLATES, 0.5)
    assert Helmet.averages(means) == {
        **dict.fromkeys(("Recall", "RAG", "ICL", "Re-rank"), 0.5),
        **dict.fromkeys(("Cite without citations", "LongQA without narrativeqa", "Avg of 4"), 0.5),
    }
    less = {name: value for name, value in means.items() if name != "json_kv"}
    assert "Recall" not in Helmet.averages(less) and "Avg of 4" not in Helmet.averages(less)
    assert not set(JUDGED) & {each for sets in Helmet.averages({}) for each in sets}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"question": "Q"}, "line 1: field 'answers' is missing"),
        (kilt(1, ctxs=[{"title": "T"}]), "line 1: field 'ctxs' must be a list of objects with title, text"),
        (kilt(1, answers=3), "line 1: field 'answers' must be a string or a list"),
    ],
)
def test_a_broken_row_is_named(tiny, tmp_path, row, said):
    write_kilt(tmp_path, row)
    with pytest.raises(UsageError, match=said):
        samples(tiny, tmp_path, "kilt_nq")


def test_what_is_missing_is_said(tiny, tmp_path):
    with pytest.raises(UsageError, match=r"no kilt/nq-dev-multikilt_1000_k20_dep6.jsonl in --data-dir"):
        samples(tiny, tmp_path, "kilt_nq")
    with pytest.raises(UsageError, match="give --data-dir the folder"):
        list(task("kilt_nq", lengths=[4096]).samples(environment(None)))
    with pytest.raises(UsageError, match="choose from 4096"):
        Helmet.Options.parse({"lengths": "5000"}, "task helmet")


def test_it_runs(tiny_folder, tmp_path):
    write_kilt(tmp_path / "data", kilt(1), kilt(2))
    options = {"helmet": {"lengths": [4096], "shots": 0}}
    _, records = run_on(
        tiny_folder, tmp_path / "out", tmp_path / "data", "helmet/kilt_nq", task_settings=options
    )
    assert {r["status"] for r in records.values()} == {"ok"}
    assert {r["truncation"]["rule"] for r in records.values()} == {"context-end"}
