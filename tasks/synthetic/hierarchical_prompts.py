"""What the recipe `hierarchical` asks its generator. The paper's prompts were not found, so these are ours."""

from __future__ import annotations

WORDS = 160
"""Tokens left for the instruction of a request and the chat template around it."""

CHUNK_SUMMARY = (
    "Here is a part of a longer document.\n\n{text}\n\nSummarize this part in a few sentences. Keep the names, the "
    "numbers and the facts in it.\n\nSummary:"
)
GLOBAL_SUMMARY = (
    "Here are summaries of the parts of one document, in order.\n\n{text}\n\nWrite one summary of the whole document "
    "in a few sentences. Keep the most important names, numbers and facts.\n\nSummary:"
)
TOP = (
    "Here is the summary of a document, and of one of its parts.\n\nDocument: {text}\n\nPart: {more}\n\nWrite one "
    "question about the document as a whole that has to do with this part, and its answer.\n\nQuestion:"
)
DEEPER = (
    "Here is a text.\n\n{text}\n\nSomebody has just asked: {question}\nThe answer was: {answer}\n\nWrite one question "
    "that goes on from there into the details of this text, and its answer.\n\nQuestion:"
)
LOCAL = (
    "Here is a text.\n\n{text}\n\nWrite one specific question that only this text answers, and its answer. Do not "
    "write 'the text' or 'the passage'.\n\nQuestion:"
)
MULTI_HOP = (
    "Here are three parts of one document.\n\n{text}\n\nWrite one question that can only be answered by somebody who "
    "has read all three parts, and its answer. Speak of the document, not of its parts.\n\nQuestion:"
)
ANSWER = (
    "{text}\n\nAnswer the question in one or two short sentences, based only on the text above.\nQuestion: {question}"
    "\n\nAnswer:"
)
