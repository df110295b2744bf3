"""What the recipe `selflong` asks its generator. The paper's prompts were not found, so these are ours."""

from __future__ import annotations

WORDS = 140
"""Tokens left for the words of a request and the chat template around it."""

INSTRUCTION = (
    "Here is a random piece of a text, to give you an idea.\n\n{text}\n\nWrite one instruction for an assistant that "
    "can look up many documents about such a topic. It must take information from several documents to carry it out. "
    "Do not mention the piece above. Write the instruction only.\n\nInstruction:"
)
NOTE = (
    "Instruction: {instruction}\n\nHere is a part of a document.\n\n{text}\n\nSummarize what in this part helps with "
    "the instruction, in a few sentences, and leave out everything else. If nothing in it helps, write only: nothing"
    "\n\nSummary:"
)
MERGE = (
    "Instruction: {instruction}\n\nHere are notes from several documents.\n\n{text}\n\nSummarize what in these notes "
    "helps with the instruction, and leave out everything else.\n\nSummary:"
)
RESPONSE = (
    "Here are notes from several documents.\n\n{text}\n\nFollow the instruction, using the notes.\nInstruction: "
    "{instruction}\n\nResponse:"
)
WRITING = (
    "Here is the beginning of a text of about {words} words.\n\n{text}\n\nWrite the instruction that this text could "
    "be the answer to: what to write, about what, and in which style. Do not give its length. Write the instruction "
    "only.\n\nInstruction:"
)
ASKED = "{instruction}\n\nWrite about {words} words."
"""How a writing task of a sample names its length; the paper's words were not found."""
