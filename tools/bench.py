"""How fast the harness is here, each number as a ratio to something measured in the same run.

python tools/bench.py --tokens 8192 --rounds 3 --out baselines/bench.json

Times are processor time of this process, which other work on the machine disturbs least; with one thread they are
what the work costs. Every round measures everything once, in turn, and medians of the rounds' ratios are reported.
Memory is the KV cache's, as the model was seen to hold it. `--small` uses a random model of 30 narrow layers and takes
seconds: only ratios are of use there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import harness
from harness import Decoding, Prompt, TokenizedPrompt
from harness._util.environment import environment
from harness.evaluation.plan import RunPlan, plan_run
from harness.evaluation.runner import execute
from harness.evaluation.settings import RunSettings
from harness.inference.meter import observe
from harness.models import load
from harness.models.model import LanguageModel
from harness.models.shared import SharedModels
from harness.results.record_lines import line_of
from harness.results.run_folder import RunFolder
from harness.testing.tiny import make_model

SHORT = {"lengths": "256", "depths": "50", "trials": "16"}
"""Samples over which the cost of a run beside its method is measured."""
INTERVAL, RATIO = 256, 8
"""Intervals of the experts that ship, and by what one pass condenses them."""
RECORDS = 50_000
"""Records of the report that is timed."""


class Nobody:
    """Watches a run and shows nothing."""

    def start(self, totals: dict[str, int], done: dict[str, int]) -> None: ...

    def note(self, text: str) -> None: ...

    def announce(self, what: str) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext()

    def sample(self, task: str, record: Any) -> None: ...


def seconds(work: Callable[[], object], device: str) -> float:
    """What `work` costs: processor time, or on a GPU the time until it is idle."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        began = time.perf_counter()
        work()
        torch.cuda.synchronize(device)
        return time.perf_counter() - began
    began = time.process_time()
    work()
    return time.process_time() - began


def floor(model: LanguageModel, tokens: int) -> Callable[[], object]:
    """The matrix products of every layer over so many tokens, in the model's type, and nothing else."""
    weights = [p for p in model.network.model.layers.parameters() if p.ndim == 2]
    inputs = {w.shape[1]: torch.randn(tokens, w.shape[1], dtype=w.dtype, device=w.device) for w in weights}

    def work() -> None:
        with torch.no_grad():
            for weight in weights:
                torch.nn.functional.linear(inputs[weight.shape[1]], weight)

    return work


def products(model: LanguageModel, tokens: int, interval: int, ratio: int) -> Callable[[], object]:
    """All matrix products of one condensing pass: `floor`'s, the beacons' and those of attention, and nothing else.

    An interval's raw tokens attend to the beacons before it and to each other, its beacons to these and to themselves.
    Queries of the heads that share a key are rows of one product.
    """
    config, beacons = model.config, interval // ratio
    shared, count = config.num_key_value_heads, tokens // interval
    grouped = config.num_attention_heads // shared
    width = model.network.model.layers[0].self_attn.head_dim
    whole = floor(model, tokens + count * beacons)
    made: dict[str, Any] = {"dtype": model.network.dtype, "device": model.network.device}
    keys = torch.randn(shared, count * beacons + interval, width, **made)
    queries = torch.randn(shared, grouped * interval, width, **made)

    def work() -> None:
        whole()
        with torch.no_grad():
            for _ in range(config.num_hidden_layers):
                for number in range(count):
                    for rows, own in ((interval, 0), (beacons, beacons)):
                        seen = keys[:, : number * beacons + interval + own]
                        (queries[:, : grouped * rows] @ seen.transpose(1, 2)) @ seen

    return work


def answering(
    model: LanguageModel, name: str, tokens: int, new: int, options: dict[str, Any]
) -> Callable[[], object]:
    """A method's answer of `new` tokens to a prompt of `tokens`, its weights read before."""
    from harness import registry

    cls = registry.method(name).cls
    method = cls(model, cls.Options.parse(options, name))
    if (shipped := method.default_adapter()) is not None:
        method.load(shipped)
    numbers = torch.randint(
        100, model.config.vocab_size, (tokens,), generator=torch.Generator().manual_seed(0)
    )
    prompt = TokenizedPrompt(Prompt("", "", ""), tuple(numbers.tolist()), 0, tokens - 8)
    decoding = Decoding(max_new_tokens=new, min_new_tokens=new)
    method.prepare([prompt], decoding)
    return lambda: method.run([prompt], decoding)


def samples(model: str, folder: Path, models: SharedModels, **changes: Any) -> RunPlan:
    """A run of `plain` over short samples, planned."""
    wanted = RunSettings(
        model=model, tasks=("passkey",), task_settings={"passkey": SHORT}, out=folder, **changes
    )
    return plan_run(wanted, load=models)


def by_hand(plan: RunPlan) -> None:
    """What a run does for its samples, without the run: tokenise, ask the method, score."""
    for sample in plan.samples:
        [answer] = plan.method.run([sample.tokenized(plan.model)], sample.decoding)
        sample.task.score(sample.sample, answer.text)


def held(model: LanguageModel, work: Callable[[], object]) -> float:
    """Bytes of the KV cache that an answer begins from."""
    with observe(model.network, model.device, 1) as meter:
        work()
    assert meter.kv_bytes is not None
    return float(meter.kv_bytes)


def many_records(run: RunFolder, count: int, folder: Path) -> Path:
    """A run of `count` records, made of one of few: the same lines under other ids."""
    shutil.copytree(run.path, folder)
    known = run.records()
    with (folder / run.samples_path.name).open("w", encoding="utf-8") as file:
        for number in range(count):
            record = known[number % len(known)]
            file.write(line_of(replace(record, id=f"{record.id}-{number}"), run.hash))
    return folder


def parsed(run: Path) -> None:
    """Read all records of a run as JSON and no more: what its report is held against."""
    for line in (run / "samples.jsonl").read_text(encoding="utf-8").splitlines():
        json.loads(line)


def reporting(run: RunFolder, count: int, device: str) -> dict[str, float]:
    """What a report of a run of `count` records costs, and reading these as JSON."""
    with tempfile.TemporaryDirectory() as kept:
        large = many_records(run, count, Path(kept) / run.path.name)
        return {
            "parsed": seconds(lambda: parsed(large), device),
            "report": seconds(lambda: harness.report(large).to_markdown(), device),
        }


def rounds(
    model: LanguageModel, name: str, tokens: int, count: int, options: dict[str, Any], records: int
) -> Iterator[dict[str, float]]:
    """Ratios of one round after another; the first, which warms up and measures memory, is left out."""
    device, models = model.device, SharedModels()
    half = tokens // 2
    work = {
        "floor": floor(model, tokens),
        "products": products(model, tokens, INTERVAL, RATIO),
        "plain": answering(model, "plain", tokens, 1, {}),
        "beacon": answering(model, "lora_experts", tokens, 1, {**options, "ratio": str(RATIO)}),
        "two_pass": answering(model, "two_pass", tokens, 1, options),
        "reusing": answering(model, "two_pass", tokens, 1, {**options, "reuse": "raw"}),
        "half": answering(model, "plain", half, 1, {}),
        "decode": answering(model, "plain", half, 17, {}),
    }
    memory = {
        "plain memory": held(model, answering(model, "plain", tokens, 2, {})),
        "beacon memory": held(
            model, answering(model, "lora_experts", tokens, 2, {**options, "ratio": str(RATIO)})
        ),
    }
    with tempfile.TemporaryDirectory() as out:
        for number in range(count + 1):
            took = memory | {part: seconds(does, device) for part, does in work.items()}
            plan = samples(name, Path(out) / f"{number}", models, dtype=model.dtype, device=device)
            took["bare loop"] = seconds(lambda plan=plan: by_hand(plan), device)  # type: ignore[misc]
            took["run"] = seconds(lambda plan=plan: execute(plan, Nobody()), device)  # type: ignore[misc]
            took |= reporting(plan.folder, records, device)
            plan = samples(
                name, Path(out) / f"{number}", models, dtype=model.dtype, device=device, batch_size="auto"
            )
            took["batched"] = seconds(lambda plan=plan: execute(plan, Nobody()), device)  # type: ignore[misc]
            if number:
                yield ratios(took)


def ratios(took: dict[str, float]) -> dict[str, float]:
    """What is reported of a round: nothing that means something only on this machine, but the floor."""
    return {
        "floor seconds": took["floor"],
        "plain / floor": took["plain"] / took["floor"],
        "beacon / floor": took["beacon"] / took["floor"],
        "beacon / its products": took["beacon"] / took["products"],
        "beacon / plain": took["beacon"] / took["plain"],
        "two_pass / beacon": took["two_pass"] / took["beacon"],
        "two_pass --reuse raw / beacon": took["reusing"] / took["beacon"],
        "beacon / plain, KV bytes": took["beacon memory"] / took["plain memory"],
        "16 more tokens / reading half": (took["decode"] - took["half"]) / took["half"],
        "run / bare loop": took["run"] / took["bare loop"],
        "batch auto / one by one": took["batched"] / took["run"],
        "report / its records as JSON": took["report"] / took["parsed"],
    }


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """Medians of all rounds, and each round."""
    options = {"interval": INTERVAL} if args.small else {}
    with tempfile.TemporaryDirectory() as kept:
        name = args.model
        if args.small:
            sizes: dict[str, Any] = {"num_hidden_layers": 8, "hidden_size": 128, "head_dim": 32}
            sizes["intermediate_size"] = 256
            name = str(make_model(Path(kept) / "small", max_position_embeddings=8192, **sizes))
        model = load(name, dtype=args.dtype, device=args.device)
        found = list(rounds(model, name, args.tokens, args.rounds, options, args.records))
    return {
        "model": "small" if args.small else args.model,
        "tokens": args.tokens,
        "threads": torch.get_num_threads(),
        "records": args.records,
        "dtype": model.dtype,
        "device": model.device,
        "medians": {part: round(statistics.median(r[part] for r in found), 3) for part in found[0]},
        "rounds": [{part: round(value, 3) for part, value in r.items()} for r in found],
        "environment": environment(),
    }


def main() -> None:
    """Measure and print; with ``--out`` also write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found = measured(args)
    if args.out:
        args.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(
        f"{found['model']}, {found['tokens']:,} tokens, {found['dtype']}, {found['device']}, {args.rounds} rounds"
    )
    for part, value in found["medians"].items():
        each = ", ".join(f"{r[part]:.2f}" for r in found["rounds"])
        print(f"  {part:32}{value:8.2f}   ({each})")


if __name__ == "__main__":
    main()
