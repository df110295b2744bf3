"""lm-eval tasks of the tests' own: YAML and data, made on the spot."""

import json
from pathlib import Path

CHOICE = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}/{name}.json, train: {data}/train.json}}
test_split: test
fewshot_split: train
output_type: multiple_choice
description: "Say a colour.\\n\\n"
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_target: label
doc_to_choice: choices
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
  - {{metric: brier_score, aggregation: brier_score, higher_is_better: false}}
metadata: {{version: 3.0}}
"""
GENERATE = """
task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}/{name}.json, train: {data}/train.json}}
test_split: test
fewshot_split: train
output_type: generate_until
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_target: " {{{{choices[label]}}}}"
generation_kwargs: {{until: ["\\n", "."], max_gen_toks: 6, do_sample: {sample}}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true}}
metadata: {{version: 1.0}}
"""
GROUP = """
group: tiny_group
task: [tiny_choice, tiny_generate]
"""
ROLLING = CHOICE.replace("output_type: multiple_choice", "output_type: loglikelihood_rolling").split(
    "metric_"
)[0]
COLOURS = ["green", "blue and yellow", "red"]


def rows(count, start=0):
    return [
        {"question": f"What is the colour of thing {n}?", "choices": COLOURS, "label": n % 3}
        for n in range(start, start + count)
    ]


def write_tasks(folder: Path, sample: bool = False) -> Path:
    """``tiny_choice``, ``tiny_generate``, the group of both, and one that cannot be asked; returns the folder."""
    folder.mkdir(parents=True)
    data = folder / "data"
    data.mkdir()
    for name, found in (
        ("train", rows(6, 20)),
        ("tiny_choice", rows(4)),
        ("tiny_generate", rows(3)),
        ("tiny_rolling", rows(2)),
    ):
        (data / f"{name}.json").write_text("\n".join(map(json.dumps, found)), encoding="utf-8")
    for name, text in (
        ("tiny_choice", CHOICE),
        ("tiny_generate", GENERATE),
        ("tiny_group", GROUP),
        ("tiny_rolling", ROLLING),
    ):
        content = (
            text if name == "tiny_group" else text.format(name=name, data=data, sample=str(sample).lower())
        )
        (folder / f"{name}.yaml").write_text(content, encoding="utf-8")
    return folder


def write_mmlu(folder: Path) -> dict[str, dict[str, str]]:
    """A group ``mmlu`` of two subjects over rows of the tests' own; returns the options that name it."""
    (folder / "data").mkdir(parents=True)
    for name, found in (("train", rows(6, 20)), ("mmlu_colours", rows(4)), ("mmlu_things", rows(2, 9))):
        (folder / "data" / f"{name}.json").write_text("\n".join(map(json.dumps, found)), encoding="utf-8")
    for name in ("mmlu_colours", "mmlu_things"):
        text = CHOICE.format(name=name, data=folder / "data")
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    (folder / "mmlu.yaml").write_text("group: mmlu\ntask: [mmlu_colours, mmlu_things]\n", encoding="utf-8")
    return {"lm_eval": {"include_path": str(folder)}}
