"""Make rows that ask for what stood before: text with planted facts, questions, copies and continuations.

    python tools/recall_rows.py --texts corpus/train.jsonl --count 4000 --interval 256 --sinks 1 --out recall.jsonl
    python tools/recall_rows.py --texts corpus/train.jsonl --count 600 --dialogues 512,1024,1536 --out long.jsonl

The first are for distillation into memories, the second for `rope_scaling`.

Texts are JSON lines with a field "text"; only the model's tokenizer is read.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from harness import UsageError
from harness._util.files import write_whole
from harness.models.loading import load
from harness.tasks.synthetic import recall, recall_dialogues


def main() -> int:
    """Write the rows; what is wrong with the input is said in one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--interval", type=int, default=256)
    parser.add_argument("--sinks", type=int, default=1)
    parser.add_argument("--windows", default="1,1,2,4", help="numbers of windows a context is drawn from")
    parser.add_argument(
        "--dialogues", help="dialogues over pieces of so many tokens (512,1024) in place of windows"
    )
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    try:
        lines = args.texts.read_text(encoding="utf-8").splitlines()
        texts = [json.loads(line)["text"] for line in lines if line.strip()]
        tokenizer = load(args.model).tokenizer
        if args.dialogues is not None:
            sizes = [int(n) for n in args.dialogues.split(",")]
            made = recall_dialogues.dialogues(texts, tokenizer, args.count, seed=args.seed, tokens=sizes)
        else:
            made = recall.rows(
                texts,
                tokenizer,
                args.count,
                seed=args.seed,
                interval=args.interval,
                sinks=args.sinks,
                windows=[int(n) for n in args.windows.split(",")],
            )
        write_whole(args.out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made))
    except (UsageError, OSError, ValueError, KeyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
