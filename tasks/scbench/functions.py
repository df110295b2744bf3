"""RepoQA's comparison: which function of a repository an answer repeats, by the official evaluator's rule."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from harness.errors import Unavailable, UsageError

ENOUGH = 0.8
"""Similarity from which a function counts as repeated."""
FUNCTIONS = {
    "python": "(function_definition name: (_)) @function",
    "go": "(function_declaration name: (_)) @function",
    "java": "(method_declaration name: (_)) @function",
    "typescript": "(function_declaration name: (_)) @function",
    "rust": "(function_item name: (_)) @function",
    "cpp": "(function_definition declarator: (function_declarator declarator: (identifier))) @function",
}
_BLOCK = re.compile(r"^```(?:\w+)?\s*\n(.*?)(?=^```)```", re.DOTALL | re.MULTILINE)


def require() -> None:
    """Raise Unavailable if a package that RepoQA's comparison needs is missing."""
    try:
        import nltk  # noqa: F401
        import tree_sitter_languages  # noqa: F401
    except ImportError as error:
        raise Unavailable(
            f"RepoQA needs {error.name}: pip install 'long-context-harness[repoqa]' (in a checkout: pip install -e "
            "'.[repoqa]'); the other tasks of scbench do without"
        ) from None


def repeated(prediction: str, wanted: str, needles: Mapping[str, str], lang: str) -> float:
    """1 if of all functions of the repository the one asked for is most like the answer, and like enough; else 0."""
    name, similarity = most_like(prediction, needles, lang)
    return float(name == wanted and similarity >= ENOUGH)


def most_like(prediction: str, needles: Mapping[str, str], lang: str) -> tuple[str | None, float]:
    """The name of the function that is most like the answer, the first of equals, and how much; None: none is."""
    said = function_in(prediction, lang)
    best: tuple[str | None, float] = (None, 0.0)
    for name, needle in needles.items():
        if (found := similarity(said, needle)) > best[1]:
            best = (name, found)
    return best


def function_in(prediction: str, lang: str) -> str:
    """The first function in a fenced block of the answer, else its first block, else all of it."""
    text = prediction.strip()
    blocks = _BLOCK.findall(text)
    for block in blocks:
        if (found := _first_function(block, lang)) is not None:
            return found
    return str(blocks[0]) if blocks else text


def similarity(said: str, needle: str) -> float:
    """BLEU of the words between blanks (nltk's, smoothed by its method 4), 0..1."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    words = [re.split(r"\s+", text) for text in (needle.strip(), said.strip())]
    return float(sentence_bleu([words[0]], words[1], smoothing_function=SmoothingFunction().method4))


@lru_cache(maxsize=8)
def _parser(lang: str) -> tuple[Any, Any]:
    import warnings

    from tree_sitter_languages import get_language, get_parser

    if lang not in FUNCTIONS:
        raise UsageError(f"RepoQA knows the languages {', '.join(FUNCTIONS)}, not {lang!r}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of the packages about each other
        return get_parser(lang), get_language(lang).query(FUNCTIONS[lang])


def _first_function(code: str, lang: str) -> str | None:
    parser, query = _parser(lang)
    for node, _ in query.captures(parser.parse(code.encode("utf-8")).root_node):
        return str(node.text.decode("utf-8"))
    return None
