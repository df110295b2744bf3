"""What a bare GPU machine says of the harness: one JSON, without a network.

python tools/gpu_check.py --model FOLDER --out gpu_check.json

Wheels and weights lie beside it: `pip install --no-index --find-links wheels ...`, and a model's folder. Each part is
tried on its own, and one that fails says why in its place. Times are those of `tools/bench.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from harness import Decoding, Prompt, TokenizedPrompt, registry
from harness._util.environment import environment
from harness.models import load, precision
from harness.models.model import LanguageModel

ROOT = Path(__file__).resolve().parent.parent
METHODS = ("plain", "streaming", "lora_experts", "two_pass")


def tests(args: argparse.Namespace) -> dict[str, Any]:
    """The tests marked ``gpu``; other files are not even looked at: they import packages a bare machine lacks."""
    words = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/test_gpu.py"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    return {"exit_status": done.returncode, "said": done.stdout.strip().splitlines()[-3:]}


def benchmark(args: argparse.Namespace) -> dict[str, Any]:
    """`tools/bench.py`: each method against full attention and against the matrix products."""
    with tempfile.TemporaryDirectory() as held:
        out = Path(held) / "bench.json"
        words = [
            sys.executable,
            str(ROOT / "tools" / "bench.py"),
            "--model",
            args.model,
            "--device",
            args.device,
        ]
        words += ["--tokens", str(args.tokens), "--rounds", str(args.rounds), "--out", str(out)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=3600)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


def agreement(args: argparse.Namespace) -> dict[str, Any]:
    """For each method the share of tokens on which the device and the CPU agree, both in float32."""
    models = [
        load(args.model, dtype="float32", device=device, offline=True) for device in ("cpu", args.device)
    ]
    found = {}
    for name in METHODS:
        mine, theirs = (_answer(model, name, args.tokens, 32) for model in models)
        same = next((i for i, (a, b) in enumerate(zip(mine, theirs)) if a != b), min(len(mine), len(theirs)))
        found[name] = {"tokens": len(mine), "the same from the beginning": same}
    return found


def _answer(model: LanguageModel, name: str, tokens: int, new: int) -> list[int]:
    cls = registry.method(name).cls
    method = cls(model, cls.Options.parse({}, name))
    if (shipped := method.default_adapter()) is not None:
        method.load(shipped)
    numbers = torch.randint(
        100, model.config.vocab_size, (tokens,), generator=torch.Generator().manual_seed(0)
    )
    prompt = TokenizedPrompt(Prompt("", "", ""), tuple(numbers.tolist()), 0, tokens - 8)
    decoding = Decoding(max_new_tokens=new, min_new_tokens=new)
    method.prepare([prompt], decoding)
    [answer] = method.run([prompt], decoding)
    return list(answer.token_ids)


def training(args: argparse.Namespace) -> dict[str, Any]:
    """Tokens a second of `harness fit`, loading included, over a few steps of random text."""
    with tempfile.TemporaryDirectory() as held:
        data = Path(held) / "data.jsonl"
        rows = [
            json.dumps({"text": " ".join(f"word{(i * 37 + j) % 997}" for j in range(700))}) for i in range(16)
        ]
        data.write_text("\n".join(rows) + "\n", encoding="utf-8")
        words = [sys.executable, "-m", "harness", "fit", "-m", "lora_experts", "--model", args.model]
        words += [
            "--device",
            args.device,
            "--data",
            str(data),
            "--out",
            str(Path(held) / "fit"),
            "--interval",
            "256",
            "--train-ratios",
            "2,4,8,16",
        ]
        words += ["--min-length", "64", "--max-length", "1024", "--max-steps", "4", "--batch-size", "2"]
        began = time.perf_counter()
        done = subprocess.run(words, capture_output=True, text=True, timeout=3600)
        took = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return {
        "steps": 4,
        "tokens": 4 * 2 * 1024,
        "seconds": round(took, 1),
        "tokens_a_second": round(8192 / took, 1),
    }


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "tests": tests,
    "benchmark": benchmark,
    "agreement": agreement,
    "training": training,
}


def main() -> None:
    """Try every part and print one JSON; the exit status is 1 if a part failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", default=",".join(PARTS), help="a comma-separated list")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    kind = args.device.partition(":")[0]
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name(args.device) if kind == "cuda" else args.device,
        "bfloat16": precision.native_bfloat16(kind),
        "environment": environment(),
        "failed": [],
    }
    for part in args.parts.split(","):
        try:
            found[part] = PARTS[part](args)
        except Exception as error:
            found[part] = {
                "error": f"{type(error).__name__}: {error}",
                "where": traceback.format_exc(limit=-1),
            }
            found["failed"].append(part)
    text = json.dumps(found, indent=2)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")
    print(text)
    sys.exit(1 if found["failed"] else 0)


if __name__ == "__main__":
    main()
