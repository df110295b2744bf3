"""LongProc's rows, checked, with the prompts that its files have for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from string import Formatter
from typing import Any

from harness.contracts import Prompt, TaskEnvironment
from harness.errors import UsageError

from .. import _files
from .._rows import file_fingerprint
from . import countdown, scores, travel
from .files import EXAMPLES, PROMPTS, cached, file_of, pages

COUNTED = {
    "html_to_tsv_0.5k": 100,
    "html_to_tsv_2k": 189,
    "html_to_tsv_8k": 120,
    "path_traversal_0.5k": 200,
    "tom_tracking_0.5k": 200,
    "tom_tracking_2k": 200,
    "countdown_0.5k": 200,
    "countdown_2k": 200,
    "countdown_8k": 200,
}
"""Rows of the published files, as far as they were counted."""
CONTEXTS = {
    "html_to_tsv": "html_str",
    "path_traversal": "city_context",
    "tom_tracking": "story",
    "countdown": "demonstration",
    "travel_planning": "demonstration",
}
"""Which field of a prompt is its context; of the searches, whose rows have none, the worked examples."""
TOKENS = {"2k": (0, 2048), "8k": (4096, 8192)}
"""Tokens at which the procedure of a trip is estimated, from and to, by the size of a set."""


@dataclass(frozen=True)
class Row:
    """A row: its id, the fields of its prompt, the bare question, the right answer, and facts for its score."""

    id: str
    fields: Mapping[str, str]
    asked: str
    reference: str
    facts: Mapping[str, Any]


def samples(
    kind: str, size: str, env: TaskEnvironment, told: Callable[[str], None]
) -> Iterator[tuple[Row, Prompt]]:
    """The rows of a set in file order, with their prompts; before the first `told` is given a fingerprint of all files.

    Raises
    ------
    UsageError
        If a file cannot be had, or a row is broken (named by file and line).
    """
    every = replace(env, limit=None, data_dir=env.data_dir or cached(kind, (size,), env.offline))
    source = _files.Source(
        f"longproc/{kind}_{size}", (file_of(kind, size),), rows=COUNTED.get(f"{kind}_{size}")
    )
    folder = _files.located(source, every).parent
    marks = [file_fingerprint(folder / PROMPTS)]
    found = list(_files.rows(source, every, marks.append))
    made: dict[str, str] = {}
    if kind == "html_to_tsv":
        texts = list(pages(found, folder))
        marks += texts
        found = [({**row, "html_str": text}, place) for (row, place), text in zip(found, texts)]
    elif kind == "countdown":
        made["demonstration"] = countdown.demos()
    elif kind == "travel_planning":
        marks.append(file_fingerprint(folder / EXAMPLES))
        made["demonstration"] = _trips(folder / EXAMPLES)
        found = [(row, place) for row, place in found if _sized(row, size, place)]
    told(sha256("\n".join(marks).encode("utf-8", "surrogatepass")).hexdigest()[:16])
    template = _template(kind, folder / PROMPTS)
    seen: dict[str, str] = {}
    for number, (given, place) in enumerate(found):
        row = _row(kind, given, str(number), place)
        _files.once(row.id, place, seen)
        yield row, _prompt(kind, template, {**made, **row.fields}, row.asked)


def _row(kind: str, given: Mapping[str, Any], number: str, place: str) -> Row:
    def text(name: str) -> str:
        return _files.text_of(given, name, place)

    if kind == "html_to_tsv":
        names = ("html_str", "task_topic", "task_description", "tsv_header", "filtering_instruction")
        fields = {name: text(name) for name in names}
        if not scores.is_table(text("gt")):
            raise UsageError(f"{place}: field 'gt' is no table with a row")
        asked = fields["task_description"] + fields["filtering_instruction"]
        return Row(text("task_id"), fields, asked, text("gt"), {})
    if kind == "path_traversal":
        ends = given.get("question_repr")
        if not isinstance(ends, list) or len(ends) < 2 or not all(isinstance(city, str) for city in ends):
            raise UsageError(f"{place}: field 'question_repr' must be two cities")
        fields = dict(zip(("city_context", "src_city", "dst_city"), (text("context_nl"), *ends)))
        return Row(number, fields, f"the route from {ends[0]} to {ends[1]}", text("answer_nl"), {})
    if kind == "tom_tracking":
        fields = {name: text(name) for name in ("story_components", "story", "question")}
        if not scores.has_beliefs(text("solution")):
            raise UsageError(f"{place}: field 'solution' has no line that begins with a hyphen")
        return Row(number, fields, fields["question"], text("solution"), {})
    if kind == "countdown":
        facts = countdown_facts(given, place)
        fields = {"nums": str(facts["nums"]), "target": str(facts["target"])}
        asked = f"Numbers: {fields['nums']}\nTarget: {fields['target']}"
        return Row(number, fields, asked, _made(countdown.demonstration, place, *facts.values()), facts)
    trip = travel.trip_of(given, place)
    fields = {"problem": text("disambig_question_text")}
    facts = {name: text(name) for name in travel.GOLD}
    return Row(
        str(given.get("id", number)), fields, fields["problem"], _made(travel.procedure, place, trip), facts
    )


def countdown_facts(given: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Numbers and target of a row; raises UsageError if they are not four whole numbers and one."""
    numbers, target = given.get("nums"), given.get("target")
    if (
        not isinstance(numbers, list)
        or len(numbers) != 4
        or not all(type(each) is int and 0 <= each < countdown.LARGEST for each in numbers)
        or type(target) is not int
    ):
        raise UsageError(f"{place}: fields 'nums' and 'target' must be four whole numbers and one")
    return {"nums": numbers, "target": target}


def _made(make: Callable[..., str], place: str, *given: Any) -> str:
    try:
        return make(*given)
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from None


def _template(kind: str, path: Path) -> list[tuple[str, str | None]]:
    """The official prompt in pieces: words, and the field that stands after them, if any."""
    import yaml

    try:
        found = str(yaml.safe_load(path.read_text("utf-8"))["USER_PROMPT"])
        pieces = [(words, field) for words, field, _, _ in Formatter().parse(found)]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path}: no USER_PROMPT can be read from it ({' '.join(str(error).split())})"
        ) from None
    if [field for _, field in pieces].count(CONTEXTS[kind]) != 1:
        raise UsageError(f"{path}: USER_PROMPT must have one place for {{{CONTEXTS[kind]}}}")
    return pieces


def _prompt(
    kind: str, template: list[tuple[str, str | None]], fields: Mapping[str, str], asked: str
) -> Prompt:
    """The official text of a prompt, parted around its context."""
    parts, at = ["", "", ""], 0
    for words, field in template:
        parts[at] += words
        if field == CONTEXTS[kind]:
            parts[1], at = fields[field], 2
        elif field is not None:
            if field not in fields:
                raise UsageError(
                    f"longproc: {PROMPTS} of {kind} asks for {{{field}}}, which its rows do not have"
                )
            parts[at] += fields[field]
    return Prompt(parts[0], parts[1], parts[2], asked)


def _trips(path: Path) -> str:
    """The worked examples of trips."""
    return "\n\n".join(
        f"# Example\n{_files.text_of(row, 'disambig_question_text', place)}\n\n"
        + _made(travel.procedure, place, travel.trip_of(row, place))
        for row, place in _files.read(path)
    )


def _sized(row: Mapping[str, Any], size: str, place: str) -> bool:
    tokens = row.get("estimated_output_tokens")
    if not isinstance(tokens, int | float):
        raise UsageError(f"{place}: field 'estimated_output_tokens' must be a number")
    low, high = TOKENS[size]
    return low <= tokens < high
