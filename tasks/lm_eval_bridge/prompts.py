"""lm-eval's one string as context and question, and its requests as samples.

The split rule, which each sample's metadata names:

* ``fewshot``: everything before the document's own turn (description, solved examples) is the context; the
  document's turn is the question.
* ``line``: everything up to the last line is the context; the last line is the question. Lines of blanks at
  the end belong to the question.

Prefix, context and suffix joined are lm-eval's string, always.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness import Prompt, Sample, TaskEnvironment, UsageError
from harness.prompts.rendering import by_last_line

if TYPE_CHECKING:
    from .library import Loaded
    from .options import LmEvalOptions

MAX_GEN_TOKS = 256
"""Tokens of an answer where the task names none: lm-eval's default for local models."""


def samples(loaded: Loaded, options: LmEvalOptions, env: TaskEnvironment) -> Iterator[Sample]:
    """One sample for each document, with the requests lm-eval would make of it."""
    task = loaded.task
    chat = _template(env.tokenizer) if options.apply_chat_template else None
    if chat and not env.tokenizer.chat_template:
        raise UsageError("--set lm_eval.apply_chat_template: the model has no chat template")
    shots = loaded.facts["num_fewshot"]
    for number, doc in task.doc_iterator(limit=env.limit):
        context = _context(task, doc, shots, options, chat)
        requests = task.construct_requests(
            doc=doc,
            ctx=context,
            metadata=(task.task_name, number, 1),
            apply_chat_template=chat is not None,
            chat_template=chat,
        )
        requests = requests if isinstance(requests, list) else [requests]
        arguments = [tuple(r.args) for r in requests]
        loaded.docs[number] = (doc, arguments)
        bare = _own_turn(task, doc, options, chat) if shots else None
        yield _sample(loaded, number, context, bare, arguments, options, env.tokenizer)


def _context(task: Any, doc: Any, shots: int, options: LmEvalOptions, chat: Any) -> str:
    return str(
        task.fewshot_context(
            doc,
            num_fewshot=shots,
            system_instruction=options.system_instruction,
            apply_chat_template=chat is not None,
            fewshot_as_multiturn=options.fewshot_as_multiturn,
            chat_template=chat,
            gen_prefix=task.doc_to_prefix(doc),
        )
    )


def _own_turn(task: Any, doc: Any, options: LmEvalOptions, chat: Any) -> str:
    """The document's turn without description, system text and examples."""
    description = task.config.description
    task.set_config(key="description", value="")
    try:
        return _context(task, doc, 0, options.model_copy(update={"system_instruction": None}), chat)
    finally:
        task.set_config(key="description", value=description)


def _template(tokenizer: Any) -> Any:
    """How lm-eval's local models write a conversation."""

    def apply(history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return str(
            tokenizer.apply_chat_template(
                history,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        )

    return apply


def _sample(
    loaded: Loaded,
    number: int,
    text: str,
    bare: str | None,
    requests: list[tuple[Any, ...]],
    options: LmEvalOptions,
    tokenizer: Any,
) -> Sample:
    prompt, rule = split(text, bare, options.split)
    sample = Sample(
        id=str(number),
        prompt=prompt,
        references=_references(loaded.task, loaded.docs[number][0]),
        new_tokens=1,
        chat=False,
        metadata={"doc_id": number, "split": rule, "kind": loaded.kind},
    )
    if loaded.kind != "generate_until":
        if not text:
            # lm-eval: a text without context is read after the token that begins a text.
            begin = tokenizer.bos_token or tokenizer.eos_token
            sample = replace(sample, prompt=Prompt("", "", begin, special_tokens=False))
        return replace(sample, choices=tuple(str(r[1]) for r in requests))
    tokens, until = limits(requests[0][1])
    return replace(sample, new_tokens=tokens, until=until)


def _references(task: Any, doc: Any) -> tuple[str, ...]:
    """Accepted answers as text; choices that a task gives by number are looked up."""
    target = task.doc_to_target(doc)
    choices = task.doc_to_choice(doc) if task.config.doc_to_choice is not None else []
    return tuple(
        str(choices[t]) if isinstance(t, int) and 0 <= t < len(choices) else str(t)
        for t in (target if isinstance(target, list) else [target])
    )


def limits(wanted: dict[str, Any]) -> tuple[int, tuple[str, ...]]:
    """(most tokens, strings that end the answer) of lm-eval's ``generation_kwargs``."""
    from lm_eval.models.utils import normalize_gen_kwargs

    known: dict[str, Any] = dict(normalize_gen_kwargs(wanted, MAX_GEN_TOKS))
    return int(known["max_gen_toks"]), tuple(str(s) for s in known["until"])


def split(text: str, bare: str | None, rule: str) -> tuple[Prompt, str]:
    """The prompt, and the rule that was followed.

    Parameters
    ----------
    text
        lm-eval's whole string.
    bare
        The document's turn alone; None if there are no solved examples before it.
    rule
        ``auto``, ``fewshot`` or ``line``.
    """
    if rule != "line" and bare is not None:
        # A chat template may begin the turn otherwise where nothing comes before it: what is common counts.
        size = 0
        while size < min(len(bare), len(text)) and bare[-1 - size] == text[-1 - size]:
            size += 1
        start = len(text) - size
        return Prompt("", text[:start], text[start:]), "fewshot"
    if rule == "fewshot":
        return Prompt("", "", text), "fewshot"
    return by_last_line(text), "line"
