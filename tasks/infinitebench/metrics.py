"""InfiniteBench's twelve scores by the rules of the official ``compute_scores.py``, oddities included.

Each oddity moves scores, so it stays even where it looks like a mistake. Two things differ, both where the
official scorer stops with an exception: a number it cannot convert is a wrong answer here (`math_find`,
`math_calc`), and an answer that was stored in a list of one is taken out of it (`kv_retrieval`, which would
else be 0 for everybody).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence

from ..longbench.metrics import ALL_PUNCTUATION, f1, qa_f1
from .rouge_l_sum import rouge_l_sum

_WORD_ENDS = str.maketrans(dict.fromkeys("\n:\"'.,?!{}", " "))
_CHOICE_ENDS = str.maketrans(dict.fromkeys("\n\"'.,?!{}", " "))
_RUN_ENDS = str.maketrans(dict.fromkeys("\n.`'\":", " "))
_DEBUG_ENDS = str.maketrans(dict.fromkeys("\n`'\"-*", " "))
CHOICE_PREFIXES = ("answer is:", "answer:", "answer is", "option is")
DEBUG_PREFIXES = ("answer is:", "is:", "answer:")
"""The official list has ``correct option is:`` too, which never occurs: "option" is deleted before, and
``is:`` is looked for earlier."""


def first_integer(prediction: str, label: str) -> float:
    """passkey, number_string: whether the first run of ASCII digits is the label as text (zeros in front count)."""
    found = re.search("[0-9]+", prediction)
    return float(found is not None and found[0] == label)


def kv_retrieval(prediction: str, label: str) -> float:
    """Whether the label is one of the words, after ``: " ' . , ? ! { }`` and newlines became blanks."""
    return float(label in prediction.translate(_WORD_ENDS).split())


def longdialogue(prediction: str, label: str) -> float:
    """Whether the label is one of the words in capitals, cut as in `kv_retrieval`.

    Only the first accepted name is asked about, and it is compared as it is stored: a name of two words, or
    one that is not all in capitals, is never found.
    """
    return float(label in prediction.translate(_WORD_ENDS).upper().split())


def any_name(prediction: str, labels: Sequence[str]) -> float:
    """Whether any accepted name stands in the answer as whole words, without regard to case (ours).

    The official rule cannot find a name of two words; records say both.
    """
    said = f" {' '.join(prediction.translate(_WORD_ENDS).upper().split())} "
    names = (" ".join(label.translate(_WORD_ENDS).upper().split()) for label in labels)
    return float(any(name and f" {name} " in said for name in names))


def longbook_choice(prediction: str, text: str, letter: str) -> float:
    """Whether the right option is chosen: by its letter, its text, or after words that announce an answer.

    An answer that begins with A, B, C or D is decided by that letter, "Because" is B. Else an answer is right
    that is the option's text. Else what stands one character after the first of `CHOICE_PREFIXES` that
    occurs (in their order, not the answer's) must begin with letter or text, and nothing else is looked at;
    without any the first word that is a piece of "ABCD" decides.
    """
    said = prediction.strip()
    if not said:
        return 0.0
    if said[0] in "ABCD":
        return float(said[0] in (letter, text))
    if said in (letter, text):
        return 1.0
    said = re.sub(" +", " ", said.translate(_CHOICE_ENDS))
    announced = _announced(said, CHOICE_PREFIXES)
    if announced is not None:
        return float(announced.startswith((letter, text)))
    return float(next((word for word in said.split() if word in "ABCD"), "") in (letter, text))


def code_debug(prediction: str, function: str, letter: str) -> float:
    """Whether the function with the error is named: at the start, or after words that announce an answer.

    At the start only ``B.`` and ``B:`` count, a bare ``B`` does not. Else what stands one character after the
    first of `DEBUG_PREFIXES` that occurs must begin with letter or name; quotes, hyphens, asterisks and the
    word "option" became blanks before.
    """
    said = prediction.strip()
    if said[:2] in (f"{letter}.", f"{letter}:"):
        return 1.0
    said = said.translate(_DEBUG_ENDS).replace("Option", " ").replace("option", " ")
    announced = _announced(re.sub(" +", " ", said), DEBUG_PREFIXES)
    return float(announced is not None and announced.startswith((letter, function)))


def code_run(prediction: str, label: str) -> float:
    """Whether the last word is the value, after ``. ` ' " :`` and newlines became blanks ("5.0" reads as 0)."""
    words = prediction.translate(_RUN_ENDS).split()
    try:
        return float(bool(words) and int(words[-1]) == int(label))
    except ValueError:
        return 0.0


def math_find(prediction: str, label: str) -> float:
    """Whether the first number without its sign is the label, 0 or 1.

    For a whole label a prediction with a decimal point is wrong, also "49.0" (officially the scorer stops).
    """
    found = re.search(r"\d+\.\d+|\d+", prediction)
    value = json.loads(label)
    try:
        return float(found is not None and type(value)(found[0]) == value)
    except ValueError:
        return 0.0


def math_calc(prediction: str, label: str, skip_first: bool = False) -> float:
    """Share of the values that are right before the first that is not: the unsigned digit runs, in order.

    Minus signs are not read, so that a negative value ends the count. With `skip_first` the first run is
    dropped, as it is for GPT-4, which repeats the expression's first number.
    """
    values = json.loads(label)
    runs = re.findall("[0-9]+", prediction)[int(skip_first) :]
    right = 0
    for run, value in zip(runs, values):
        if (run.lstrip("0") or "0") != str(value):  # as text: int() refuses runs of thousands of digits
            break
        right += 1
    return right / len(values)


def longbook_sum(prediction: str, labels: Sequence[str]) -> float:
    """rougeLsum F of the package ``rouge-score`` as the Hugging Face metric calls it; the best label's.

    No stemming; sentences end at newlines alone. Words are runs of a-z and 0-9 in lower case.
    """
    return max(rouge_l_sum(prediction, label) for label in labels)


def longbook_qa_chn(prediction: str, labels: Sequence[str]) -> float:
    """F1 of the two bags of characters without blanks and punctuation, in lower case; the best label's.

    The opening ``《`` is not among the punctuation and counts, the closing one is.
    """
    return max(f1(_characters(prediction), _characters(label)) for label in labels)


def longbook_qa_eng(prediction: str, labels: Sequence[str]) -> float:
    """`longbench.metrics.qa_f1`, the best label's."""
    return max(qa_f1(prediction, label) for label in labels)


_ONE: dict[str, Callable[[str, str], float]] = {
    "passkey": first_integer,
    "number_string": first_integer,
    "kv_retrieval": kv_retrieval,
    "longdialogue_qa_eng": longdialogue,
    "math_find": math_find,
    "code_run": code_run,
}
_BEST: dict[str, Callable[[str, Sequence[str]], float]] = {
    "longbook_sum_eng": longbook_sum,
    "longbook_qa_eng": longbook_qa_eng,
    "longbook_qa_chn": longbook_qa_chn,
}
_CHOSEN: dict[str, Callable[[str, str, str], float]] = {
    "longbook_choice_eng": longbook_choice,
    "code_debug": code_debug,
}


def score(
    task: str, prediction: str, labels: Sequence[str], letter: str = "", skip_first: bool = False
) -> float:
    """Score one answer, 0..1.

    Parameters
    ----------
    task
        One of `TASKS`.
    prediction
        The decoded new tokens, untouched.
    labels
        Accepted answers, at least one. Only the book tasks look beyond the first. Numbers are written in
        JSON: one for `math_find` and `code_run`, a list for `math_calc`.
    letter
        The right option's, for tasks with options.
    skip_first
        See `math_calc`.
    """
    if task in _CHOSEN:
        return _CHOSEN[task](prediction, labels[0], letter)
    if task in _BEST:
        return _BEST[task](prediction, labels)
    if task == "math_calc":
        return math_calc(prediction, labels[0], skip_first)
    return _ONE[task](prediction, labels[0])


def _announced(said: str, prefixes: Sequence[str]) -> str | None:
    """What stands one character after the first of `prefixes` that occurs; None if none does."""
    prefix = next((prefix for prefix in prefixes if prefix in said), None)
    return None if prefix is None else said.partition(prefix)[2][1:]


def _characters(text: str) -> str:
    bare = "".join(character for character in text.lower() if character not in ALL_PUNCTUATION)
    return "".join(bare.split())
