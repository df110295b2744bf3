"""HELMET's own words (``data.py`` of princeton-nlp/HELMET @4526dfb, MIT), misspelling included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.contracts import Prompt

COMMIT = "4526dfb"
OMITTED = " ... [the rest of the text is omitted]"


@dataclass(frozen=True)
class Template:
    """How a set is asked.

    Attributes
    ----------
    user
        The message, with the place ``{context}`` exactly once.
    start
        How the answer begins where there is no chat template; the official code calls it the system template.
    gap
        What stands between the two.
    chat
        Whether instruct models are asked with their chat template officially.
    new_tokens
        Most tokens of the answer.
    """

    user: str
    start: str
    new_tokens: int
    gap: str = "\n"
    chat: bool = False

    def render(self, context: str, given: Mapping[str, str]) -> Prompt:
        """The message filled; plain substitution into the template only."""
        before, _, after = self.user.partition("{context}")
        return Prompt(_fill(before, given), context, _fill(after, given), given.get("question", ""))

    def begins(self, given: Mapping[str, str]) -> str:
        """How the answer begins without a chat template, filled."""
        return _fill(self.start, given)


def _fill(template: str, given: Mapping[str, str]) -> str:
    parts: list[str] = []
    rest = template
    while rest:
        places = [(at, name) for name in given if (at := rest.find(f"{{{name}}}")) >= 0]
        if not places:
            parts.append(rest)
            break
        at, name = min(places)
        parts += [rest[:at], given[name]]
        rest = rest[at + len(name) + 2 :]
    return "".join(parts)


_RAG = Template(
    "Use the given documents to write a concise and short answer to the question. Write your answer in the following "
    "format:\nAnswer: [answer]\n\n{demos}{context}\n\nQuestion: {question}",
    "Answer:",
    20,
)
_NEEDLE = Template(
    "A special magic {type_needle_v} is hidden within the following text. Make sure to memorize it. I will quiz you "
    "about the {type_needle_v} afterwards.\n{context}\nWhat is the special magic {type_needle_v} for {query} mentioned "
    "in the provided text?",
    "The special magic {type_needle_v} for {query} mentioned in the provided text is",
    50,
)
_NEEDLES = Template(
    "Some special magic {type_needle_v} are hidden within the following text. Make sure to memorize it. I will quiz "
    "you about the {type_needle_v} afterwards.\n{context}\nWhat are all the special magic {type_needle_v} for {query} "
    "mentioned in the provided text?",
    "The special magic {type_needle_v} for {query} mentioned in the provided text are",
    50,
)
_ICL = Template(
    "Use the provided mapping from the text to label to assign a label to the text. Only output "
    '"label: {label}" and nothing else. \n\n{context}\n\n{question}',
    "label:",
    20,
)
_STORY = "You are given a story and a question"
_ALCE = Template(
    "{demos}{instruction}\n\nQuestion: {question}\n\n{context}", "Answer:", 300, gap="\n\n", chat=True
)

TEMPLATES: dict[str, Template] = {
    "ruler_niah_mk_2": _NEEDLE,
    "ruler_niah_mk_3": Template(_NEEDLE.user, _NEEDLE.start, 100),
    "ruler_niah_mv": _NEEDLES,
    "json_kv": Template(
        "{context}\n\nExtract the value corresponding to the specified key in the JSON object below.\n\n"
        "{demos}Key: {question}",
        "Corresponding value:",
        100,
    ),
    "kilt_nq": _RAG,
    "kilt_triviaqa": _RAG,
    "kilt_popqa_3": _RAG,
    "kilt_hotpotqa": _RAG,
    "msmarco_rerank_psg": Template(
        "You are provided with a list of documents, each indicated by their ID. Rank each document based on their "
        "relevance to the question in descending order from most relelvant to least relevant texts. Include all "
        "documents in the rankings. Write your answer using the unique IDs, with the following format:\n"
        "Ranking: ID3 > ID1 > ID2\n\n{demos}{context}\n\nQuery: {question}",
        "Ranking:",
        200,
    ),
    "icl_trec_coarse": _ICL,
    "icl_trec_fine": _ICL,
    "icl_banking77": _ICL,
    "icl_clinic150": _ICL,
    "icl_nlu": _ICL,
    "narrativeqa": Template(
        "You are given a story, which can be either a novel or a movie script, and a question. Answer the question as "
        "concisely as you can, using a single phrase if possible.\n\n{demos}{context}\n\nQuestion: {question}",
        "Answer:",
        100,
        chat=True,
    ),
    "infbench_qa_eng": Template(
        f"{_STORY}. Answer the question as concisely as you can, using a single phrase if possible.\n\n"
        "{demos}{context}\n\nQuestion: {question}",
        "Answer:",
        10,
        gap="\n\n",
        chat=True,
    ),
    "infbench_choice_eng": Template(
        f"{_STORY} with multiple choices. Choose the best answer from the options provided. Only one of the following "
        "options is correct, output the answer using one single letter (A, B, C, or D). Don't say anything else.\n\n"
        "{demos}{context}\n\nQuestion: {question}\nOptions:\n{options}",
        "Answer:",
        10,
        gap="\n\n",
        chat=True,
    ),
    "infbench_sum_eng": Template(
        "You are given a book and you are tasked to summarize it. Write a summary of about 1000 to 1200 words. Only "
        "write about the plot and characters of the story. Do not discuss the themes or background of the book. Do "
        "not provide any analysis or commentary.\n\n{demos}{context}\n\nNow summarize the book.",
        "Summary:",
        1200,
        gap="\n\n",
        chat=True,
    ),
    "multi_lexsum": Template(
        "You are given the legal documents in a civil rights lawsuit, and you are tasked to summarize the case. Write "
        "a concise summary of one paragraph (200 to 250 words). The summary should contain a short description of the "
        "background, the parties involved, and the outcomes of the case.\n\n{demos}Legal documents:\n{context}\n\n"
        "Now please summarize the case.",
        "Summary:",
        400,
        gap="\n\n",
        chat=True,
    ),
    "alce_asqa": _ALCE,
    "alce_qampari": _ALCE,
}
"""The sets of HELMET's table, in its order of categories."""

OTHERS: dict[str, Template] = {
    "ruler_niah_s_1": _NEEDLE,
    "ruler_niah_mq": _NEEDLES,
    "ruler_vt": Template(
        "{example}\n\nMemorize and track the chain(s) of variable assignment hidden in the following text.\n\n{context}"
        "\nQuestion: Find all variables that are assigned the value {query} in the text above.",
        "Answer: According to the chain(s) of variable assignment in the text above, {num_v} variables are assigned "
        "the value {query}, they are:",
        50,
    ),
    "ruler_fwe": Template(
        "Read the following coded text and track the frequency of each coded word. Find the three most frequently "
        "appeared coded words.\n{context}\nQuestion: Do not provide any explanation. Please ignore the dots '....'. "
        "What are the three most frequently appeared words in the above coded text?",
        "Answer: According to the coded text above, the three most frequently appeared words are:",
        50,
    ),
}
"""Sets that HELMET can ask and its table does not have."""

_CITE = (
    "Always cite for any factual claim. When citing a document, surround its ID with square brackets, such as [x] to "
    "cite document x. To cite multiple documents, simply concatenate the citation markers; for example, use [x][y][z] "
    "to cite the documents with ID x, y, and z. Cite at least one document and at most three documents in each "
    "sentence. If multiple documents support the sentence, only cite a minimum sufficient subset of the documents."
)
_WRITE = (
    "Instruction: Write an accurate, engaging, and concise answer for the given question using only the provided "
    "search results (some of which might be irrelevant){cite}. Use an unbiased and journalistic tone."
)
INSTRUCTIONS = {
    "alce_asqa": f"{_WRITE.replace('{cite}', ' and cite them properly')} {_CITE}",
    "alce_asqa_nocite": _WRITE.replace("{cite}", ""),
    "alce_qampari": (
        "Instruction: Provide a list of accurate answers for the given question using only the provided search results "
        "(some of which might be irrelevant) and cite them properly. Always cite one and only one document for each "
        "answer. When citing a document, surround its ID with square brackets, such as [x] to cite document x. "
        "Separate answers by commas. For questions that have more than 5 answers, write at least 5 answers."
    ),
}
"""ALCE's instructions, without the demonstrations that are read from the official files."""


def documents(found: Sequence[Mapping[str, Any]]) -> str:
    """Passages of a RAG row."""
    return "\n\n".join(f"Document (Title: {each['title']}): {each['text']}" for each in found)


def ranked(found: Sequence[Mapping[str, Any]]) -> str:
    """Passages of a re-ranking row, with their ids, and titles if the first has one."""
    titled = bool(found) and "title" in found[0]
    return "\n\n".join(
        f"[ID: {each['id']}] Document{' (Title: ' + str(each['title']) + ')' if titled else ''}: {each['text']}"
        for each in found
    )


def numbered(found: Sequence[Mapping[str, Any]]) -> str:
    """Passages of a row of citations, numbered from 1."""
    lines = (
        f"Document [{i}](Title: {each['title']}): {each['text']}" for i, each in enumerate(found, start=1)
    )
    return "\n\n".join(lines)


def by_label(found: Sequence[Mapping[str, Any]]) -> str:
    """The ids of a re-ranking row, the most relevant first."""
    return " > ".join(str(each["id"]) for each in sorted(found, key=lambda each: -each["label"]))
