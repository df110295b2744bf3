"""Finished runs made without a model: folders as `harness run` writes them, with scores of the tests' choosing."""

import json
import random

from harness import registry
from harness.contracts.record import SampleRecord
from harness.results.run_folder import RunFolder, identity_hash
from harness.results.summary import summarise

COST = {"forwards": 3, "positions": 100, "batch": 1, "row": 0, "peak_bytes": 3 * 2**28}


def record(task, name, scores, *, tokens=4000, ratio=4, seconds=2.0, metadata=None, **changes):
    """The record of a finished sample whose KV cache holds a `ratio`-th of its prompt."""
    kept = max(1, (tokens - 1) // ratio)
    made = {
        "id": name,
        "task": task,
        "status": "ok",
        "metadata": metadata or ({"length": 4000, "depth": 0} if task == "passkey" else {}),
        "references": [f"answer {name}"],
        "answer_token": None,
        "prompt_hash": f"{hash_of(task, name):016x}",
        "prompt_tokens": tokens,
        "truncation": {
            "rule": "middle",
            "limit": None,
            "tokens_before": tokens,
            "tokens_after": tokens,
            "truncated": False,
            "answer_in_context": True,
            "answer_survives": True,
        },
        "prediction": f"answer {name}",
        "scores": scores,
        "new_tokens": 5,
        "stop_reason": "eos",
        "measured": {"kv_tokens": kept, "verified": True, "compression": (tokens - 1) / kept},
        "declared": {"kv_tokens": kept},
        "details": {},
        "cost": {
            **COST,
            "seconds": seconds,
            "compress_seconds": seconds / 2,
            "prefill_seconds": seconds / 4,
            "decode_seconds": seconds / 4,
            "kv_bytes": 2**14 * kept,
        },
    }
    return {**made, **changes}


def hash_of(*words):
    return random.Random("/".join(words)).getrandbits(64)


def failed(task, name, message="no room", status="error"):
    """The record of a sample that failed."""
    whole = record(task, name, {})
    head = (
        "id",
        "task",
        "metadata",
        "references",
        "answer_token",
        "prompt_hash",
        "prompt_tokens",
        "truncation",
    )
    error = {"type": "RuntimeError", "message": message, "where": "somewhere.py:1"}
    return {**{k: whole[k] for k in head}, "status": status, "error": error}


def write_run(out, method, records, *, options=None, missing=(), status="finished", **identity):
    """Write a run's folder and return its path. `missing` are (task, id) that were planned and never asked."""
    plugin = registry.method(method)
    every = plugin.cls.Options(**(options or {})).model_dump(mode="json")
    names = list(dict.fromkeys(r["task"] for r in records))
    tasks = registry.tasks(names, {})
    whole = {
        "schema": 1,
        "harness": "0.1.0",
        "method": method,
        "method_version": plugin.cls.version,
        "options": every,
        "adapter": None,
        "model_hash": "m" * 64,
        "tokenizer_hash": "t" * 64,
        "context_length": 8192,
        "dtype": "float32",
        "device": "cpu",
        "batch_size": 1,
        "limit": None,
        "truncate": "middle",
        "max_context": None,
        "chat": "template",
        "trust_remote_code": False,
        "seed": 42,
        "tasks": [
            {
                "name": t.name,
                "version": t.version,
                "preset": t.preset,
                "options": t.options.model_dump(mode="json"),
            }
            for t in tasks
        ],
        **identity,
    }
    planned = [(r["task"], r["id"]) for r in records] + list(missing)
    content = {
        "schema": 1,
        "hash": identity_hash(whole),
        "identity": whole,
        "settings": {
            "method": method,
            "options": options or {},
            "tasks": names,
            "model": "tiny",
            "adapter": None,
        },
        "method": {
            "name": method,
            "origin": "x",
            "version": plugin.cls.version,
            "sees_question": plugin.cls.sees_question,
        },
        "model": {"name": "tiny", "content_hash": "m" * 64, "context_length": 8192},
        "method_facts": {},
        "prompts": {
            n: {
                "preset": f"{n}@1",
                "hash": "p" * 12,
                "samples": sum(t == n for t, _ in planned),
                "samples_hash": "d" * 12,
            }
            for n in names
        },
        "environment": {"threads": 2, "gpu": None, "cpus": 2},
        "status": status,
    }
    if status != "running":
        content["summary"] = summarise(
            tasks, planned, {(r["task"], r["id"]): SampleRecord.from_json(r) for r in records}
        )
    folder = RunFolder(out / f"{method}-tiny-{content['hash']}")
    folder.write_run(content)
    lines = [json.dumps(r, ensure_ascii=False) + "\n" for r in records]
    folder.samples_path.write_text("".join(lines), encoding="utf-8")
    return folder.path


def longbench(method_skill, n=20, sets=None, seed=0, **changes):
    """Records of LongBench sets whose scores spread around `method_skill`, the same difficulties for each call."""
    cls = registry.task_class("longbench")[0].cls
    records = []
    for name in sets or cls.group:
        for i in range(n):
            rng = random.Random(f"{seed}/{name}/{i}")
            hard, noise = rng.random(), random.Random(f"{seed}/{name}/{i}/{method_skill}").random()
            score = min(1.0, max(0.0, method_skill + 0.5 * (0.5 - hard) + 0.1 * (noise - 0.5)))
            tokens = int(2000 + 12000 * hard)
            records.append(
                record(f"longbench/{name}", f"{name}-{i}", {"score": score}, tokens=tokens, **changes)
            )
    return records


def grid(skill, lengths=(4096, 8192, 16384), depths=(0, 25, 50, 75, 100), trials=3, ratio=8, interval=1024):
    """Passkey records over a grid, with the ratios and relevance of a method in intervals."""
    records = []
    for length in lengths:
        for depth in depths:
            for trial in range(trials):
                rng = random.Random(f"{length}/{depth}/{trial}/{skill}")
                right = float(rng.random() < skill * (1.2 if depth in (0, 100) else 0.8))
                count = (length - 20) // interval
                where = min(int(count * depth / 100), count - 1)
                relevance = [1.0 + (8.0 if i == where and right else rng.random()) for i in range(count)]
                total = sum(relevance)
                details = {
                    "first_ratio": 2,
                    "relevance": [r / total for r in relevance],
                    "z": [r - 1.5 for r in relevance],
                    "budget": 1024,
                    "ratios": [
                        0 if i == where and right else rng.choice((8, 16, 32, 64, 128)) for i in range(count)
                    ],
                    "memory": 900,
                    "raw": length - 20 - count * interval,
                    "ratios_while_answering": [],
                }
                name = f"len{length}-depth{depth}-t{trial}"
                changes = {} if right else {"prediction": "12 \x1b[31mred\x1b[0m <script>alert(1)</script>"}
                records.append(
                    record(
                        "passkey",
                        name,
                        {"accuracy": right, "fuzzy": right},
                        tokens=length - 15,
                        ratio=ratio,
                        seconds=length / 1000,
                        metadata={"length": length, "depth": depth, "trial": trial, "needle_position": 1},
                        answer_token=int((length - 20) * depth / 100 * 0.98),
                        details=details,
                        **changes,
                    )
                )
    return records


FOUR = (
    ("plain", 0.3, 1, None),
    ("beacon", 0.45, 8, None),
    ("two_pass", 0.9, 12, {"alpha": 2}),
    ("lora_experts", 0.32, 8, None),
)
"""Method, share it gets right, ratio, options."""


def four_runs(out, **changes):
    """Four runs over five tasks, one with a failure; `changes` are of every record."""
    for method, skill, ratio, options in FOUR:
        records = grid(skill, ratio=ratio, trials=2)
        records += longbench(0.7 * skill, n=6, sets=("qasper", "trec", "lcc"), ratio=ratio)
        right = int(12 * skill)
        records += [
            record(
                "niah",
                f"n{i}",
                {"recall": float(i < right)},
                ratio=ratio,
                metadata={"length": 4000, "depth": 0},
            )
            for i in range(12)
        ]
        records = [{**each, **changes} for each in records]
        if method == "lora_experts":
            lost = records[3]
            records[3] = failed(lost["task"], lost["id"], "no room", "oom") | {"metadata": lost["metadata"]}
        write_run(out, method, records, options=options)
