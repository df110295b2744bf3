"""What the tests of published benchmarks share: files of rows, an environment that counts nothing, runs on them."""

import json

from harness import TaskEnvironment

from .running import run, settings


def write_rows(path, *rows):
    """JSON lines; a row that is a string stands as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def environment(folder, tokenizer=None, **changes):
    """An environment with `folder` as its data; counting tokens of prompts is an error."""

    def count(prompt, chat, answer_prefix):
        raise AssertionError("this task has no reason to count tokens")

    return TaskEnvironment(tokenizer, 4096, count, data_dir=folder, offline=True, **changes)


def run_on(tiny_folder, out, folder, task, **changes):
    """The records of a run of `plain` with the tiny model on the rows in `folder`, and its result."""
    return run(settings(tiny_folder, out, tasks=(task,), data_dir=folder, **changes))
