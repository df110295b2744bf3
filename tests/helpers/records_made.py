"""Folders of finished runs without a model: what tests of reports and comparisons read."""

import hashlib
import json
from dataclasses import dataclass, field

from harness.results.run_folder import SCHEMA, RunFolder, folder_name, identity_hash


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass
class Made:
    """What a made run is like; every field may be given to `make_run`."""

    method: str = "plain"
    options: dict = field(default_factory=dict)
    given: tuple = ()
    sees_question: bool = False
    withheld: bool = False  # the question, from a method that could see it
    facts: dict = field(default_factory=dict)
    status: str = "finished"
    model: str = "tiny"
    tokenizer: str = "t"
    chat: str = "template"
    truncate: str = "middle"
    max_context: int | None = None
    seed: int = 42
    text: str = ""  # another one makes other prompts
    limit: int = 1000  # of raw tokens; longer prompts count as cut
    tokens: int = 500
    kv_tokens: int = 100
    task_options: dict = field(default_factory=dict)
    planned: dict = field(default_factory=dict)
    metrics: dict = field(default_factory=dict)  # main score of a task, "score" if not here
    failed: dict = field(default_factory=dict)  # task -> ids that ran out of memory
    extra: dict = field(default_factory=dict)  # of run.json


def protocol(made):
    return "query-aware" if made.sees_question and not made.withheld else "query-agnostic"


def identity(made, tasks):
    return {
        "schema": SCHEMA,
        "harness": "0.1.0",
        "method": made.method,
        "method_version": "1",
        "options": made.options,
        "adapter": None,
        "model_hash": digest(made.model),
        "tokenizer_hash": made.tokenizer,
        "context_length": 2048,
        "dtype": "float32",
        "device": "cpu",
        "batch_size": 1,
        "limit": None,
        "query_agnostic": made.sees_question and made.withheld,
        "truncate": made.truncate,
        "max_context": made.max_context,
        "chat": made.chat,
        "trust_remote_code": False,
        "seed": made.seed,
        "tasks": [
            {"name": t, "version": "1", "preset": "made@1", "options": made.task_options.get(t, {})}
            for t in tasks
        ],
    }


def sample(made, task, name, score, metric="score"):
    """A finished sample's record, as the runner writes it."""
    cut = made.tokens > made.limit
    kept = min(made.tokens, made.limit)
    return {
        "id": name,
        "task": task,
        "status": "ok",
        "protocol": protocol(made),
        "metadata": {"length": made.tokens, "all": ["x"]},
        "references": [f"answer to {task} {name}{made.text}"],
        "prompt_hash": digest(f"{task} {name} {made.text} {kept} {made.chat} {made.tokenizer}"),
        "prompt_tokens": kept + 10,
        "truncation": {
            "rule": made.truncate,
            "limit": made.limit,
            "tokens_before": made.tokens,
            "tokens_after": kept,
            "truncated": cut,
            "answer_in_context": True,
            "answer_survives": not cut,
        },
        "prediction": f"it is {score}",
        "scores": {metric: score} if not isinstance(score, dict) else score,
        "new_tokens": 4,
        "stop_reason": "eos",
        "measured": {
            "kv_tokens": made.kv_tokens,
            "verified": True,
            "compression": (kept + 9) / made.kv_tokens,
        },
        "declared": {"kv_tokens": made.kv_tokens},
        "details": {"ratios": [2, 4]},
        "cost": {
            "seconds": 1.23456789,
            "compress_seconds": 0.5,
            "prefill_seconds": 0.25,
            "decode_seconds": 0.125,
            "kv_bytes": 1 << 20,
            "peak_bytes": 1 << 30,
            "forwards": 5,
            "positions": kept,
            "batch": 1,
            "row": 0,
        },
    }


def make_run(out, scores, **changes):
    """Write a run's folder below `out` and return its path.

    `scores` is ``{task: {id: score}}`` or ``{task: [score, ...]}``; a score may be a dict of several metrics.
    `changes` are fields of `Made`.
    """
    made = Made(**changes)
    table = {
        task: given if isinstance(given, dict) else {f"s{i}": value for i, value in enumerate(given)}
        for task, given in scores.items()
    }
    who = identity(made, table)
    folder = RunFolder(out / folder_name(made.method, made.model, who))
    lines = []
    for task, mine in table.items():
        metric = made.metrics.get(task, "score")
        lines += [sample(made, task, name, score, metric) for name, score in mine.items()]
        for name in made.failed.get(task, ()):
            head = sample(made, task, name, 0.0)
            kept = ("id", "task", "metadata", "references", "prompt_hash", "prompt_tokens", "truncation")
            error = {"type": "OutOfMemoryError", "message": "no", "where": "x.py:1"}
            lines.append({**{k: head[k] for k in kept}, "status": "oom", "error": error})
    asked = {t: made.planned.get(t, len(mine) + len(made.failed.get(t, ()))) for t, mine in table.items()}
    folder.write_run(
        {
            "schema": SCHEMA,
            "hash": identity_hash(who),
            "identity": who,
            "settings": {
                "method": made.method,
                "options": {name: str(made.options[name]) for name in made.given},
                "model": made.model,
                "adapter": None,
                "out": str(out),
                "data_dir": str(out / "data"),
            },
            "method": {
                "name": made.method,
                "origin": "the tests",
                "version": "1",
                "sees_question": made.sees_question,
                "protocol": protocol(made),
                "context_limit": 2048,
            },
            "model": {"name": made.model, "content_hash": digest(made.model)},
            "method_facts": made.facts,
            "prompts": {t: {"preset": "made@1", "samples": n} for t, n in asked.items()},
            "environment": {"harness": "0.1.0"},
            "status": made.status,
            "summary": {"tasks": [_row(made, t, mine, asked[t]) for t, mine in table.items()]},
            **made.extra,
        }
    )
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    folder.write_text("samples.jsonl", text)
    return folder.path


def _row(made, task, mine, asked):
    metric = made.metrics.get(task, "score")
    values = [v[metric] if isinstance(v, dict) else v for v in mine.values()]
    score = sum(values) / len(values) if values else None
    return {"task": task, "metric": metric, "n": asked, "n_ok": len(values), "score": score}
