"""HELMET's sets: where the rows of each lie, which are asked, and what stands around them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import Unavailable, UsageError

from .. import _files
from . import demos, scoring
from .long_documents import ASKED as LONG_DOCUMENTS
from .long_documents import long_documents
from .prompts import INSTRUCTIONS, by_label, documents, numbered, ranked
from .reading import Reader

LENGTHS = tuple(4096 * 2**step for step in range(6))
KILT = {
    "kilt_nq": ("nq-dev-multikilt_1000_k{k}_dep6", "nq-train-multikilt_1000_k3_dep6"),
    "kilt_triviaqa": ("triviaqa-dev-multikilt_1000_k{k}_dep6", "triviaqa-train-multikilt_1000_k3_dep6"),
    "kilt_popqa_3": ("popqa_test_1000_k{k}_dep6", "popqa_test_1000_k3_dep6"),
    "kilt_hotpotqa": ("hotpotqa-dev-multikilt_1000_k{k}_dep3", "hotpotqa-train-multikilt_1000_k3_dep3"),
}
DOCUMENTS = {"kilt": (20, 50, 105, 220, 440, 1000), "msmarco": (14, 50, 130, 285, 600, 1000)}
PAIRS = (50, 105, 220, 440, 900, 1800)
CITED = (8, 30, 75, 165, 345, 700)
RULER = {
    "ruler_niah_mk_2": "niah_multikey_2",
    "ruler_niah_mk_3": "niah_multikey_3",
    "ruler_niah_mv": "niah_multivalue",
}
SHOTS = {
    "icl_trec_coarse": (200, 400, 800, 1600, 3300, 6600),
    "icl_trec_fine": (200, 400, 800, 1600, 3200, 6400),
    "icl_banking77": (180, 360, 720, 1450, 2900, 5900),
    "icl_clinic150": (220, 440, 880, 1750, 3525, 7050),
    "icl_nlu": (250, 510, 1020, 2040, 4080, 8296),
}
ROWS, ICL_ROWS = 100, 500
ANY, NAMED = "_any", "_named"
BY_NAME = tuple(f"{name}{kind}" for name in SHOTS for kind in (ANY, NAMED, ANY + NAMED))
"""ICL with examples of any label, and with names for labels instead of numbers: HELMET's table has neither."""


def of_table(name: str) -> str:
    """The set of HELMET's table that a set is a kind of: itself for most."""
    return name.removesuffix(NAMED).removesuffix(ANY)


@dataclass(frozen=True)
class Asked:
    """One question: what fills its template, what is accepted, and facts for the record."""

    id: str
    context: str
    given: Mapping[str, str]
    answers: tuple[str, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)


def asked(name: str, length: int, shots: int, reader: Reader) -> Iterator[Asked]:
    """The questions of a set at a length, in the official order.

    Raises
    ------
    UsageError
        If a file is missing, or a row is broken (named by file and line).
    """
    step = LENGTHS.index(length)
    if name in KILT:
        return _rag(name, step, shots, reader)
    if name in RULER:
        return _ruler(name, length, reader)
    if of_table(name) in SHOTS:
        return _classes(name, step, reader)
    if name in LONG_DOCUMENTS:
        made = long_documents(name, length, shots, reader)
        return (Asked(*each) for each in made)
    return {"json_kv": _pairs, "msmarco_rerank_psg": _ranked, "alce_asqa": _cited, "alce_qampari": _cited}[
        name
    ](name, step, shots, reader)


def _rag(name: str, step: int, shots: int, reader: Reader) -> Iterator[Asked]:
    file, demo_file = KILT[name]
    needed = ("question", "answers", "ctxs")
    passages = ("title", "text")
    rows = reader.rows(
        f"kilt/{file.format(k=DOCUMENTS['kilt'][step])}.jsonl", fields=needed, passages=passages
    )
    pool = reader.rows(f"kilt/{demo_file}.jsonl", fields=needed, passages=passages) if shots else []
    popqa = name == "kilt_popqa_3"
    if popqa:
        rows, pool = [list(filter(demos.popular, each)) for each in (rows, pool)]
    for number, row in enumerate(demos.chosen(rows, "id", ROWS)):
        # popqa's examples come from the questions themselves.
        others = [each for each in pool if not (popqa and each["question"] == row["question"])]
        found = demos.examples(row, others, "id", shots)
        said = [
            f"{documents(each['ctxs'])}\n\nQuestion: {each['question']}\nAnswer: {each['answers'][0]}"
            for each in found
        ]
        given = {"demos": "".join(f"{each}\n\n" for each in said), "question": row["question"]}
        facts = {"depth": 100 * row["depth"]} if isinstance(row.get("depth"), int | float) else {}
        answers = _files.answers_of(row, "answers", row["_place"])
        yield Asked(str(number), documents(row["ctxs"]), given, answers, facts)


def _ranked(name: str, step: int, shots: int, reader: Reader) -> Iterator[Asked]:
    file = "msmarco/test_reranking_data_k{k}_dep3.jsonl"
    needed = ("qid", "query", "ctxs")
    passages = ("id", "text", "label")
    rows = reader.rows(file.format(k=DOCUMENTS["msmarco"][step]), fields=needed, passages=passages)
    pool = reader.rows(file.format(k=10), fields=needed, passages=passages) if shots else []
    for number, row in enumerate(demos.chosen(rows, "qid", ROWS)):
        found = demos.examples(row, [each for each in pool if each["qid"] != row["qid"]], "qid", shots)
        said = [
            f"{ranked(e['ctxs'])}\n\nQuery: {e['query']}\nRanking: {by_label(e['ctxs'])}\n\n" for e in found
        ]
        given = {"demos": "".join(said), "question": row["query"]}
        labels = {str(each["id"]): each["label"] for each in row["ctxs"] if each["label"] > 0}
        if not labels:
            raise UsageError(f"{row['_place']}: no document is relevant: no ranking could score")
        facts = {"documents": len(row["ctxs"])}
        yield Asked(str(number), ranked(row["ctxs"]), given, (json.dumps(labels),), facts)


def _pairs(name: str, step: int, shots: int, reader: Reader) -> Iterator[Asked]:
    rows = reader.rows(
        f"json_kv/test_k{PAIRS[step]}_dep6.jsonl", fields=("context", "question", "answer", "demos")
    )
    for number, row in enumerate(demos.shuffled(rows, demos.SEED)[:ROWS]):
        said = [f"Key: {key}\nCorresponding value: {value}\n\n" for key, value in row["demos"][:shots]]
        given = {"demos": "".join(said), "question": row["question"]}
        facts = {"depth": 100 * row["depth"]} if isinstance(row.get("depth"), int | float) else {}
        answer = _files.answer_of(row, "answer", row["_place"])
        yield Asked(str(number), row["context"], given, (answer,), facts)


def _ruler(name: str, length: int, reader: Reader) -> Iterator[Asked]:
    rows = reader.rows(f"ruler/{RULER[name]}/validation_{length}.jsonl", fields=("context", "type_needle_v"))
    for number, row in enumerate(demos.shuffled(rows, demos.SEED)[:ROWS]):
        answer = row.get("answer", row.get("outputs"))
        answers = _files.answers_of({"answer": answer}, "answer", row["_place"])
        given = {"query": str(row.get("query", row.get("question"))), "type_needle_v": row["type_needle_v"]}
        yield Asked(str(number), row["context"], given, answers)


def _classes(name: str, step: int, reader: Reader) -> Iterator[Asked]:
    """In-context learning: every question has its own examples, and its own numbers for the labels."""
    plain, named = of_table(name), name.endswith(NAMED)
    short = plain.removeprefix("icl_")
    fields = ("text", "label", *(("label_name",) if named else ()))
    train, test = (reader.rows(f"icl/{short}_{part}.jsonl", fields=fields) for part in ("train", "test"))
    classes = demos.CLASSES[plain]
    draw = demos.anywhere if ANY in name.removeprefix(plain) else demos.balanced
    for each in (*train, *test):
        if type(each["label"]) is not int or not 0 <= each["label"] < classes:
            raise UsageError(f"{each['_place']}: label {each['label']!r} is none of 0 to {classes - 1}")
    chosen: Sequence[Mapping[str, Any]] = test
    if len(test) > ICL_ROWS:
        chosen = demos.balanced(demos.shuffled(test, demos.SEED), ICL_ROWS, demos.SEED)
    for number, row in enumerate(chosen):
        seed = demos.own_seed(row["text"])
        order = demos.numbers(classes, seed)

        def said(each: Mapping[str, Any], order: Sequence[int] = order) -> str:
            return str(each["label_name"] if named else order[each["label"]])

        found = draw(train, SHOTS[plain][step], seed)
        context = "\n\n".join(f"{each['text']}\nlabel: {said(each)}" for each in found)
        yield Asked(str(number), context, {"question": row["text"]}, (said(row),))


def _cited(name: str, step: int, shots: int, reader: Reader) -> Iterator[Asked]:
    short = name.removeprefix("alce_")
    rows = reader.rows(
        f"alce/{short}_eval_gtr_top2000.json",
        fields=("question", "docs"),
        passages=("title", "text"),
        of="docs",
    )
    instruction, said = INSTRUCTIONS[name], ""
    if shots:
        instruction, said = _told(short, shots, reader)
    for number, row in enumerate(demos.shuffled(rows, demos.SEED)[:ROWS]):
        given = {"demos": said, "instruction": instruction, "question": row["question"]}
        wanted: Any = row.get("answers")
        if short == "asqa":
            wanted = [pair["short_answers"] for pair in row.get("qa_pairs") or ()]
        if not scoring.are_groups(wanted):
            raise UsageError(
                f"{row['_place']}: no {'qa_pairs' if short == 'asqa' else 'answers'} to score by"
            )
        yield Asked(str(number), numbered(row["docs"][: CITED[step]]), given, (json.dumps(wanted),))


def _told(short: str, shots: int, reader: Reader) -> tuple[str, str]:
    """ALCE's instruction and examples from the official ``prompts/<set>_revised.json``."""
    folder = reader.env.data_dir or Path()
    path = folder / "prompts" / f"{short}_revised.json"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Unavailable(
            f"{reader.name}: its examples come from {path} ({error}); copy prompts/ of princeton-nlp/HELMET there, or "
            "set helmet.shots=0"
        ) from None
    gap = "\n" if short == "qampari" else "\n\n"
    parts = [
        f"{told['instruction']}\n\nQuestion: {each['question']}\n\n{numbered(each['docs'])}{gap}"
        f"Answer: {each['answer']}"
        for each in told["demos"][:shots]
    ]
    return told["instruction"], "".join(f"{part}\n\n\n" for part in parts)
