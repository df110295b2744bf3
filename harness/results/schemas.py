"""JSON schemas of what a run's folder holds, made from the types that its records have.

A record's fields, their types and what they mean are said once, in `harness.contracts.record` and
`harness.contracts.run_file`; here they become JSON Schema (draft 2020-12).
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any

from ..contracts.record import SampleRecord
from ..contracts.record_parts import AnswerRecord
from ..contracts.run_file import RunFile
from .run_folder import SCHEMA

DRAFT = "https://json-schema.org/draft/2020-12/schema"
DECLARED: dict[str, Any] = {
    "type": "object",
    "properties": {"kv_tokens": {"type": ["integer", "null"]}},
    "description": "KV entries the method said it kept.",
}
CRC = {"type": "string", "pattern": "^[0-9a-f]{8}$", "description": "Checksum of all before it in the line."}


def run_schema() -> dict[str, Any]:
    """The schema of ``run.json``."""
    from pydantic import TypeAdapter

    made = _tidy(TypeAdapter(RunFile).json_schema())
    return _headed(made, "run.json", "run")


def sample_schema() -> dict[str, Any]:
    """The schema of a line of ``samples.jsonl``.

    A line may have more than is here: what a later version writes, or a plugin.
    """
    from pydantic import TypeAdapter

    made = _tidy(TypeAdapter(SampleRecord).json_schema())
    defined = made["$defs"]
    for name, each in ((AnswerRecord.__name__, defined[AnswerRecord.__name__]), ("", made)):
        fields = each["properties"]
        fields.pop("declared_kv_tokens")
        for inner in ("answer_sought", "extra"):
            fields.pop(inner, None)
        fields["declared"] = DECLARED
        if not name:
            fields["crc32"] = CRC
            fields["status"]["enum"] = ["ok", "error", "oom", "timeout"]
    made["required"] = ["id", "task", "status"]
    scored = {"type": "number", "minimum": -1e-9, "maximum": 1 + 1e-9}
    made["properties"]["scores"]["additionalProperties"] = scored
    made["if"] = {"properties": {"status": {"const": "ok"}}}
    made["then"] = {"required": ["scores", "measured", "cost", "truncation", "stop_reason"]}
    return _headed(made, "a line of samples.jsonl", "sample")


SCHEMAS: dict[str, Callable[[], dict[str, Any]]] = {"run": run_schema, "sample": sample_schema}
"""What there is a schema of, and what makes it."""


def _headed(made: dict[str, Any], what: str, name: str) -> dict[str, Any]:
    head = {
        "$schema": DRAFT,
        "$id": f"urn:long-context-harness:{name}:{SCHEMA}",
        "title": f"long-context-harness: {what}, version {SCHEMA}",
    }
    made.pop("title", None)
    return {**head, **made}


def _tidy(node: Any) -> Any:
    """A schema without the titles that only repeat names, and with the words of docstrings as descriptions."""
    if isinstance(node, list):
        return [_tidy(each) for each in node]
    if not isinstance(node, dict):
        return node
    found = {
        k: _tidy(v) for k, v in node.items() if not (k == "title" and isinstance(v, str) and "type" not in v)
    }
    found.pop("default", None)
    if "properties" in found and isinstance(words := found.get("description"), str):
        told = attributes(words)
        found["description"] = _first(words)
        for name, field in found["properties"].items():
            if name in told and isinstance(field, dict):
                field["description"] = told[name]
    return found


def _first(docstring: str) -> str:
    return " ".join(inspect.cleandoc(docstring).partition("\n\n")[0].split())


def attributes(docstring: str) -> dict[str, str]:
    """What a docstring's ``Attributes`` say of each name (numpydoc)."""
    text = inspect.cleandoc(docstring)
    _, found, rest = text.partition("Attributes\n----------\n")
    told: dict[str, str] = {}
    if not found:
        return told
    for block in re.split(r"\n(?=\S)", rest):
        names, _, words = block.partition("\n")
        if words.startswith("    "):
            for name in names.split(","):
                told[name.strip()] = " ".join(textwrap.dedent(words).split())
    return told
