"""The notebook of the documentation, executed: ``python -m tools.notebook`` writes docs/notebook.ipynb.

It runs on the random model of the tests, in seconds and without a network, so that it shows how things look and
never what a method is worth.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "notebook.ipynb"

WORDS = "md"
CODE = "py"

CELLS: tuple[tuple[str, str], ...] = (
    (
        WORDS,
        """# Methods compared in a notebook

The model here is random and has 100,000 parameters, so that the notebook runs in seconds and downloads nothing: it
shows how things look. Put `"smollm2"`, any name or folder, or a loaded model with its tokenizer in its place.""",
    ),
    (
        CODE,
        """from pathlib import Path

import harness
import torch
from harness.inference import KVCache, decode, feed, phase, stop_reason
from harness.testing import make_model
from pydantic import Field

model = make_model(Path("tiny"), max_position_embeddings=512)""",
    ),
    (WORDS, "A method can be written in a cell. Its source is part of the run's identity."),
    (
        CODE,
        """class LastTokens(harness.Method):
    \"\"\"Keep the last tokens of a prompt, and drop the rest.\"\"\"

    class Options(harness.Options):
        recent: int = Field(64, ge=1, description="last tokens that stay")

    def context_limit(self):
        return None  # any number of tokens

    def compress_and_generate(self, prompts, decoding):
        kept = [p.ids[-self.options.recent :] for p in prompts]
        with phase("prefill"), torch.no_grad():
            caches, _ = feed(self.model.network, [KVCache()] * len(kept), [ids[:-1] for ids in kept])
        with phase("decode"):
            _, answers = decode(self.model, caches, [ids[-1] for ids in kept], decoding)
        return [
            harness.Generation(
                self.model.tokenizer.decode(answer, skip_special_tokens=True),
                answer,
                stop_reason(self.model, decoding, answer),
                len(prompt),
                len(cache),
            )
            for prompt, answer, cache in zip(prompts, answers, caches)
        ]""",
    ),
    (
        CODE,
        """grid = {"passkey": {"lengths": [400], "depths": [0, 50, 100], "trials": 2}}
runs = harness.run(
    ["plain", LastTokens],
    model=str(model),
    task="passkey",
    task_settings=grid,
    device="cpu",
)
runs""",
    ),
    (WORDS, "Who is better, by how much, how sure:"),
    (CODE, "compared = harness.compare(runs[0], *runs[1:])\ncompared"),
    (CODE, "compared.plot()"),
    (WORDS, "Every sample is a row of a data frame:"),
    (
        CODE,
        """frame = runs.to_pandas()
frame.groupby("run")[["score.accuracy", "kv_tokens", "new_tokens"]].mean().round(2)""",
    ),
    (WORDS, "The page with every sample, and a sheet to hand on (`one.pdf`, if a Chromium is installed):"),
    (CODE, 'report = harness.report(*runs)\nreport.save("report.html", force=True)'),
    (
        WORDS,
        "A model that is loaded, with its tokenizer. Its weights are those of the folder, so nothing is run again.",
    ),
    (
        CODE,
        """from transformers import AutoModelForCausalLM, AutoTokenizer

network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
tokenizer = AutoTokenizer.from_pretrained(model)
again = harness.run(
    "plain",
    model=network,
    tokenizer=tokenizer,
    task="passkey",
    task_settings=grid,
    device="cpu",
)
again.ran, again.folder == runs[0].folder""",
    ),
    (WORDS, "What is wrong is one line:"),
    (
        CODE,
        """try:
    harness.run("plian", model=str(model))
except harness.UsageError as error:
    print(error)""",
    ),
)


def executed() -> Any:
    """The notebook with its outputs. Raises nbclient's error for a cell that fails."""
    import nbformat
    from nbclient import NotebookClient

    made = nbformat.v4.new_notebook()
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    for number, (kind, text) in enumerate(CELLS):
        new = nbformat.v4.new_markdown_cell if kind == WORDS else nbformat.v4.new_code_cell
        cell = new(text)
        cell["id"] = f"cell-{number}"
        made.cells.append(cell)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(made, timeout=300, resources={"metadata": {"path": folder}}).execute()
    for cell in made.cells:
        cell.metadata.pop("execution", None)  # when it was run is nobody's affair
    return made


def main() -> None:
    """Write it."""
    import nbformat

    nbformat.write(executed(), TARGET)
    sys.stdout.write(f"{TARGET}\n")


if __name__ == "__main__":
    main()
