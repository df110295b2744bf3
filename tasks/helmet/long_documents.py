"""HELMET's questions about and summaries of long documents, cut to a number of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.errors import UsageError

from .. import _files
from . import demos
from .prompts import OMITTED
from .reading import Reader

ASKED = ("narrativeqa", "infbench_qa_eng", "infbench_choice_eng", "infbench_sum_eng", "multi_lexsum")
LESS = dict(zip(ASKED, (300, 210, 210, 1400, 700)))
"""Tokens that a document is shorter than the length."""
SHORTEST = {"narrativeqa": 131_073, "multi_lexsum": 0}
FILES: dict[str, tuple[str, ...]] = {
    name: (f"infbench/longbook{name[8:]}.jsonl", f"longbook{name[8:]}.jsonl") for name in ASKED[1:4]
}
FILES |= {name: (f"{name}.jsonl",) for name in ("narrativeqa", "multi_lexsum")}
ROWS = 100


def cut_to(text: str, length: int, tokenizer: Any) -> str:
    """`text`, or, if it has more than `length` tokens, its beginning and a line that the rest is left out.

    Both counts take the tokenizer's first token along, as officially; the result is shorter by as many tokens as that
    line has.
    """
    found = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    if len(found) <= length:
        return text
    last = found[length - len(tokenizer(OMITTED)["input_ids"])]
    return f"{text[: last[1]]}{OMITTED}"


def long_documents(
    name: str, length: int, shots: int, reader: Reader
) -> Iterator[tuple[str, str, dict[str, str], tuple[str, ...]]]:
    """Id, context, fillings and accepted answers of each question of a set."""
    tokenizer = reader.env.tokenizer
    rows = [_row(name, row) for row in reader.rows(*FILES[name])]
    least = SHORTEST.get(name, 65_536)
    if length >= least:  # shorter documents would not fill it
        rows = [row for row in rows if len(tokenizer(row["context"])["input_ids"]) >= least]
    if not rows:
        raise UsageError(f"{reader.name}: no document has the {least:,} tokens that {length:,} ask for")
    for row in demos.shuffled(rows, demos.SEED)[:ROWS]:
        others = [other for other in rows if other["id"] != row["id"]]
        said = _examples(name, demos.shuffled(others, demos.SEED)[:shots])
        given = {"demos": said, "question": row["question"], "options": row["options"]}
        yield row["id"], cut_to(row["context"], length - LESS[name], tokenizer), given, row["answers"]


def _examples(name: str, found: Sequence[Mapping[str, Any]]) -> str:
    if not found:
        return ""
    if name == "multi_lexsum":
        lines = "".join(f"Summary: {each['answers'][0]}\n\n" for each in found)
        return f"Example summaries:\n\n{lines}Now, write a summary of the following legal documents.\n"
    if name == "narrativeqa":
        lines = "".join(f"Question: {each['question']}\nAnswer: {each['answers'][0]}\n\n" for each in found)
        return f"For example:\n\n{lines}Now, use the following story to answer the question:\n\n"
    if name == "infbench_sum_eng":
        lines = "".join(f"[story text]\nSummary: {each['answers'][0]}\n\n" for each in found)
    else:
        lines = "".join(
            f"[story text]\nQuestion: {each['question']}\n"
            f"{'Options:' + chr(10) + each['options'] + chr(10) if each['options'] else ''}"
            f"Answer: {each['answers'][0]}\n\n"
            for each in found
        )
    return f"For example:\n\n{lines}Now, read the following story:\n\n"


def _row(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of InfiniteBench, of Multi-LexSum, or of a file with context, question and answers, in one form."""
    place = row["_place"]
    if name == "multi_lexsum":
        sources = "\n\n".join(_files.texts_of(row, "sources", place))
        summary = _files.answer_of(row, "summary/short", place)
        return {
            "id": str(row.get("id", place)),
            "context": sources,
            "question": "",
            "options": "",
            "answers": (summary,),
        }
    question = _files.text_of(row, "question" if name == "narrativeqa" else "input", place)
    answers = _files.answers_of(row, "answers" if name == "narrativeqa" else "answer", place)
    options = ""
    if name == "infbench_choice_eng":
        texts = _files.texts_of(row, "options", place)
        if len(texts) != 4 or answers[0] not in texts:
            raise UsageError(f"{place}: the answer must be one of four options")
        letter = "ABCD"[texts.index(answers[0])]
        options = "\n".join(f"{each}. {text}" for each, text in zip("ABCD", texts))
        answers = (letter, f"{letter}. {answers[0]}")
    context = _files.text_of(row, "context", place)
    found = {"context": context, "question": question, "options": options, "answers": answers}
    return {"id": str(row.get("id", place.rpartition(" ")[2])), **found}
