"""What of a model's writing is kept, and why the rest is not: each rule has a name that the card counts."""

from __future__ import annotations

import re

from harness.contracts.recipe import Answer, Dropped

NGRAM = 4
MOST_REPEATED = 0.25
"""Share of a text's word 4-grams that may have occurred in it before."""
LEAST_KEPT = 0.5
"""Share of a cut-off text that must be left when it is cut back to its last whole sentence."""

_SENTENCE_END = re.compile(r"[.!?][\"'”’)\]]*(?=\s|$)")
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_QUESTION_START = re.compile(
    r"(?:what|who|whom|whose|which|when|where|why|how|is|are|was|were|do|does|did|can|could|will|would|should|"
    r"has|have|had|in|at|on|by|from|to|for|with|according)\b",
    re.IGNORECASE,
)
_COMMON = frozenset(
    "a about after all also an and any are as at be because been before being but by can could did do does "
    "down during each few for from had has have he her here hers him his how i if in into is it its just like "
    "made make many may me more most much my no not of off on one only or other our out over own said same "
    "she should so some such than that the their them then there these they this those through to too under "
    "up us very was we well were what when where which while who whom why will with would yes you your "
    "question answer story passage text summary".split()
)


def words(text: str) -> list[str]:
    """The words of a text, lower case, without punctuation."""
    return [word.lower() for word in _WORD.findall(text)]


def content_words(text: str) -> set[str]:
    """Words that say what a text is about, cut to their first six letters so that endings do not matter."""
    return {word[:6] for word in words(text) if word not in _COMMON}


def repetition(text: str) -> float:
    """Share of the word 4-grams of a text that occurred before in it, 0..1; 0 for a very short text."""
    found = words(text)
    grams = [tuple(found[i : i + NGRAM]) for i in range(len(found) - NGRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def whole_sentences(text: str) -> str:
    """The text up to its last whole sentence; empty if there is none."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return text[: ends[-1]] if ends else ""


def prose(answer: Answer, least_words: int, drop: tuple[str, ...] = ()) -> str | Dropped:
    """A text worth keeping: not empty, not short, not repetitive, and ending where a sentence ends.

    Parameters
    ----------
    answer
        As the generator gave it. One that hit the token limit is cut back to its last whole sentence if at
        least half of it is left.
    least_words
        Words it must have.
    drop
        Labels (``"Story"``) that are taken off if the text starts with one and a colon.
    """
    text = clean(answer.text, drop)
    if not text:
        return Dropped("empty")
    if not answer.ended:
        cut = whole_sentences(text)
        if len(cut) < LEAST_KEPT * len(text):
            return Dropped("truncated")
        text = cut
    if len(words(text)) < least_words:
        return Dropped("too short")
    if repetition(text) > MOST_REPEATED:
        return Dropped("repetitive")
    return text


def clean(text: str, labels: tuple[str, ...] = ()) -> str:
    """A text without blanks around it, marks of bold and heading, and a label at its start."""
    text = text.replace("\r\n", "\n").replace("\x00", "").replace("**", "").strip()
    text = re.sub(r"^#+ *", "", text, flags=re.MULTILINE)
    text = re.sub(r"\n{3,}", "\n\n", text)
    for label in labels:
        text = re.sub(rf"^{re.escape(label)}[^:\n]{{0,20}}:\s*", "", text, flags=re.IGNORECASE)
    return text.strip()


def pair(answer: Answer, passage: str) -> tuple[str, str] | Dropped:
    """A question and its answer from what a model wrote after ``Question:``; the answer may be missing ("").

    Small models often stop after the question; the answer then has to be asked for. One that is there is
    checked by `reply`.
    """
    text = clean(answer.text)
    if not text:
        return Dropped("empty")
    split = re.split(r"\bAnswer\b[^:\n]{0,12}:", text, maxsplit=1, flags=re.IGNORECASE)
    if len(split) == 1:
        head, mark, tail = text.partition("?")
        split = [head + mark, tail]
    question = one_question(split[0])
    if question is None:
        return Dropped("unanswerable" if answer.ended or "?" in text else "truncated")
    if not split[1].strip():
        return question, ""
    found = reply(Answer(split[1], answer.ended, answer.tokens), question, passage)
    return found if isinstance(found, Dropped) else (question, found)


def reply(answer: Answer, question: str, passage: str) -> str | Dropped:
    """An answer, on one line, kept if it shares a content word with the passage and says something that the
    question did not."""
    text = clean(answer.text, ("Answer",))
    text = re.split(r"\n\s*\n|\b(?:Question|Answer)\b[^:\n]{0,12}:", text, flags=re.IGNORECASE)[0]
    text = " ".join(text.split())
    if not text:
        return Dropped("empty")
    if not answer.ended and not (text := whole_sentences(text)):
        return Dropped("truncated")
    said = content_words(text)
    if not said & content_words(passage) or said <= content_words(question):
        return Dropped("unanswerable")
    return Dropped("repetitive") if repetition(text) > MOST_REPEATED else text


def one_question(text: str) -> str | None:
    """The first question of a text, on one line; None if there is none."""
    text = re.sub(r"^\s*(?:Question\b[^:\n]{0,12}:|\d+[.)]|[-*])\s*", "", text, flags=re.IGNORECASE)
    head, mark, _ = text.partition("?")
    head = " ".join(head.split())
    # Models often begin with a sentence about what they are going to do; the question is the last one.
    head = re.split(r"(?<=[.!:])\s+", head)[-1] if mark else head
    if not mark or not _QUESTION_START.match(head) or len(words(head)) < 3:
        return None
    return head + "?"


def about(answer: Answer, passage: str, least_words: int, drop: tuple[str, ...] = ()) -> str | Dropped:
    """`prose` about a passage (a summary): shorter than it, and sharing content words with it."""
    text = prose(answer, least_words, drop)
    if isinstance(text, Dropped):
        return text
    if len(text) > 0.8 * len(passage):
        return Dropped("too long")
    if len(content_words(text) & content_words(passage)) < 2:
        return Dropped("unanswerable")
    return text
