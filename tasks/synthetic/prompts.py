"""What the experts recipe asks its generator, and the genres its passages are written in.

The paper prints none of these, so they are ours: short, for small models.
"""

from __future__ import annotations

GENRES = (
    "an encyclopedia article",
    "the introduction of an academic paper",
    "a news report",
    "a science fiction story",
    "a fairy tale",
    "a detective story",
    "a diary entry",
    "a letter to a friend",
    "a travel guide entry",
    "a product review",
    "a speech",
    "a chapter of a history book",
    "a magazine column",
    "a biography of a person whose life was changed by it",
)
PASSAGE = "Write {genre} about {noun}. Name people, places and numbers. Do not use lists."
QA = (
    "Here is a passage about {noun}.\n\n{text}\n\nWrite one highly specific question that this passage answers, "
    "and its answer.\n\nQuestion:"
)
ANSWER = (
    "{text}\n\nAnswer the question in one short sentence, based only on the text above.\nQuestion: {question}"
)
SUMMARY = "Here is a passage about {noun}.\n\n{text}\n\nWrite a short summary of the passage.\n\nSummary:"
SIMILAR_A = "Write one short paragraph about {noun}, with a name, a place, a colour and a number in it."
SIMILAR_B = (
    "Here is a paragraph about {noun}.\n\n{text}\n\nWrite the same paragraph again, but change a few key details: "
    "another name, another place, another colour and another number."
)
SIMDIFF = (
    "First passage: {first}\n\nSecond passage: {second}\n\nIdentify the similarities and differences in the two "
    "passages about {noun}, in a few sentences."
)
LINKED_A = "Write one short paragraph about {noun}. Name a person, a place and a year."
LINKED_B = (
    "Here is a paragraph about {noun}.\n\n{text}\n\nWrite a different short paragraph about {noun}: what happened "
    "afterwards. Mention the same person or the same place again, and add new details."
)
LINKED_QA = (
    "First passage: {first}\n\nSecond passage: {second}\n\nWrite one question that can only be answered by someone "
    "who has read both passages, and its answer.\n\nQuestion:"
)
FACT_A = (
    'Complete the sentence with one short consequence: "If there is {noun}, then ..." Write only the whole '
    "sentence."
)
FACT_B = (
    'Complete the sentence with what follows from it: "If {middle}, then ..." Write only the whole sentence.'
)
LOGIC_QA = (
    "First fact: {first}\nSecond fact: {second}\n\nWrite one question about how this: {start}, leads to this: "
    "{end}; and its answer.\n\nQuestion:"
)
ASKED = "Answer the question based on the passages."
