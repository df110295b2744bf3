"""What a compressed context is worth: loss of the text after it, between no memory at all and the whole context.

python tools/memory_loss.py --texts heldout.jsonl --weights trained=adapters/experts --out baselines/smollm2

Each text gives a context of `--windows` intervals after `--sinks` tokens, condensed by each ratio, and a continuation,
whose next-token loss is measured: after the condensed context, after nothing (bound), after the context as it is
(bound). Each adapter is read in the form it was trained for, an untrained memory in the paper's and in ours.
`--weights NAME=ADAPTER@16` condenses by every ratio with the weights of one, `--weights NAME=ADAPTER*0.5` adds half of
what was learned.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from harness._util.environment import environment
from harness.inference import KVCache, feed
from harness.models import LanguageModel, adapters, load
from harness.plugins.beacon.checkpoint import read_weights, untrained
from harness.plugins.beacon.engine import ActivationBeacon
from harness.plugins.beacon.form import Form, trained_form
from harness.plugins.beacon.reading import Reading
from harness.stats import confidence_interval

NONE, FULL = "no memory", "whole context"


def main() -> None:
    """Measure, then write ``memory_loss.json``, ``memory_loss.md`` and ``memory_loss.png``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--texts", type=Path, required=True, help='JSON lines with "text" and "kind"')
    parser.add_argument("--each", type=int, default=8, help="texts of each kind")
    parser.add_argument("--interval", type=int, default=256)
    parser.add_argument("--windows", type=int, default=1, help="intervals of the context, each condensed")
    parser.add_argument("--sinks", type=int, default=1, help="of an untrained memory in our form")
    parser.add_argument("--continuation", type=int, default=64)
    parser.add_argument("--ratios", default="2,4,8,16,32,64,128")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--weights", action="append", default=[], metavar="NAME=ADAPTER[@RATIO][*SCALE]")
    parser.add_argument(
        "--untrained", default="end,last", help="starts of memories of which nothing was learned"
    )
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    model = load(args.model, dtype=args.dtype)
    # The bounds are of one text for all: as many tokens before the continuation as the longest form reads.
    ours = Form(args.interval, "last", args.sinks)
    begun: dict[str, tuple[str, Form]] = {
        "end": ("untrained, the paper's start", Form(args.interval)),
        "last": ("untrained, start last", ours),
    }
    memories: dict[str, tuple[Any, Form]] = {
        name: (untrained(model, form.start), form)
        for name, form in (begun[start] for start in args.untrained.split(",") if start)
    }
    cards = {}
    for named in args.weights:
        name, _, given = named.partition("=")
        given, _, scale = given.partition("*")
        folder, _, only = given.partition("@")
        card = adapters.read_card(Path(folder))
        adapters.check(Path(folder), (card["method"],), model)
        form = replace(trained_form(Path(folder)), interval=args.interval)
        weights = read_weights(card["method"], Path(folder), model)
        if only:
            one_for_all(weights, int(only))
        if scale:
            weights = weights.scaled(model.network, float(scale), form.start)
        memories[name] = weights, form
        cards[name] = {k: card.get(k) for k in ("method", "steps", "loss", "start", "sinks", "train_ratios")}
        cards[name] |= {"only": int(only)} if only else {}
        cards[name] |= {"scale": float(scale)} if scale else {}
    before = args.windows * args.interval + max(form.sinks for _, form in memories.values())
    texts = list(choose(args.texts, model, before + args.continuation, args.each))
    ratios = [int(r) for r in args.ratios.split(",")]
    losses = measure(model, texts, memories, ratios, before, args.windows)
    found = {
        "model": model.name,
        "model_hash": model.content_hash,
        "interval": args.interval,
        "windows": args.windows,
        "continuation": args.continuation,
        "texts": [{k: t[k] for k in ("source", "kind")} for t in texts],
        "ratios": ratios,
        "adapters": cards,
        "losses": losses,
        "environment": environment(),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "memory_loss.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (args.out / "memory_loss.md").write_text(table(found), encoding="utf-8")
    draw(found, args.out / "memory_loss.png")
    print(table(found))


def one_for_all(weights: Any, ratio: int) -> None:
    """Let experts condense by every ratio with what was learned for one, as in the shared part of their training."""
    if ratio not in getattr(weights, "ratios", ()):
        raise SystemExit(f"--weights ...@{ratio}: the adapter has no expert for that ratio")
    weights.shared = ratio


def choose(path: Path, model: LanguageModel, tokens: int, each: int) -> Iterator[dict[str, Any]]:
    """So many texts of each kind, spread over the sources; the beginning of a document is passed over."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    by_kind: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        by_kind[row["kind"]][row["source"].split("/")[0]].append(row)
    for packages in by_kind.values():
        taken, turn = 0, 0
        while taken < each and turn < max(map(len, packages.values())):
            for documents in packages.values():
                if turn < len(documents) and taken < each:
                    row = documents[turn]
                    ids = model.tokenizer(row["text"])["input_ids"][512 : 512 + tokens]
                    if len(ids) == tokens:
                        taken += 1
                        yield {**row, "ids": ids}
            turn += 1


@torch.no_grad()
def measure(
    model: LanguageModel,
    texts: list[dict[str, Any]],
    memories: dict[str, tuple[Any, Form]],
    ratios: list[int],
    before: int,
    windows: int = 1,
) -> dict[str, Any]:
    """Mean loss (nats per token) of each text: ``{name: {ratio: [text 0, text 1 ...]}}``; bounds have ratio 0.

    `before` tokens of each text come before what is measured; a form with fewer sinks than others condenses
    the last of them, so that what is condensed always ends where the continuation begins.
    """
    network = model.network

    def after(cache: KVCache, ids: list[int]) -> float:
        hidden = feed(network, [cache], [ids])[1][0, :-1]
        return float(
            F.cross_entropy(network.lm_head(hidden).float(), torch.tensor(ids[1:], device=hidden.device))
        )

    losses: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for text in texts:
        context, rest = text["ids"][:before], text["ids"][before:]
        (raw,), _ = feed(network, [KVCache()], [context])
        losses[NONE]["0"].append(after(KVCache(), rest))
        losses[FULL]["0"].append(after(raw, rest))
        for name, (own, form) in memories.items():
            engine = ActivationBeacon(network, own, form.interval, form.start, form.sinks)
            read = context[before - engine.end_of(windows) :]
            for ratio in ratios:
                (state,) = engine.read([Reading()], [read], lambda row, window, r=ratio: r)
                losses[name][str(ratio)].append(after(state.cache, rest))
        print(text["kind"], text["source"], flush=True)
    return losses


def interval_of(values: list[float]) -> str:
    """Mean with its 95 % interval over texts."""
    found = confidence_interval(values)
    return f"{np.mean(values):.3f}" + (f" [{found[0]:.3f}, {found[1]:.3f}]" if found else "")


def table(found: dict[str, Any]) -> str:
    """The losses, and the paired differences from no memory, as Markdown."""
    losses, ratios = found["losses"], found["ratios"]
    kinds = [t["kind"] for t in found["texts"]]
    counted = ", ".join(f"{kinds.count(k)} {k}" for k in dict.fromkeys(kinds))
    context = f"{found['windows']} times {found['interval']}" if found["windows"] > 1 else found["interval"]
    lines = [
        f"Next-token loss (nats) of {found['continuation']} tokens after a context of {context} tokens",
        f"condensed by each ratio; {found['model']}, {len(kinds)} texts not trained on ({counted}); mean and 95 %",
        "interval over texts.",
        "",
        "| memory | " + " | ".join(f"ratio {r}" for r in ratios) + " |",
        "|---|" + "---:|" * len(ratios),
    ]
    for bound in (NONE, FULL):
        lines.append(f"| {bound} | {interval_of(losses[bound]['0'])} |" + " |" * (len(ratios) - 1))
    names = [n for n in losses if n not in (NONE, FULL)]
    for name in names:
        lines.append(f"| {name} | " + " | ".join(interval_of(losses[name][str(r)]) for r in ratios) + " |")
    lines += ["", "Paired difference from no memory (negative: the memory helps):", ""]
    lines += [
        "| memory | " + " | ".join(f"ratio {r}" for r in ratios) + " |",
        "|---|" + "---:|" * len(ratios),
    ]
    for name in (*names, FULL):
        cells = []
        for r in ratios if name != FULL else [0]:
            values = np.array(losses[name][str(r)]) - np.array(losses[NONE]["0"])
            cells.append(interval_of(values.tolist()))
        lines.append(f"| {name} | " + " | ".join(cells) + " |" + " |" * (len(ratios) - len(cells)))
    return "\n".join(lines) + "\n"


def draw(found: dict[str, Any], path: Path) -> None:
    """Loss by ratio, the two bounds as lines across; once whole, once near the bounds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    losses, ratios = found["losses"], found["ratios"]
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    whole, near = figure.subplots(1, 2)
    bounds = {bound: float(np.mean(losses[bound]["0"])) for bound in (NONE, FULL)}
    for axes in (whole, near):
        for (bound, value), style in zip(bounds.items(), ("--", ":")):
            axes.axhline(value, color="#555", linestyle=style, label=bound)
        for name in (n for n in losses if n not in bounds):
            axes.plot(ratios, [np.mean(losses[name][str(r)]) for r in ratios], marker="o", label=name)
        axes.set_xscale("log", base=2)
        axes.set_xticks(ratios, [str(r) for r in ratios])
        axes.set_xlabel("condensing ratio (tokens per memory entry)")
        axes.spines[["top", "right"]].set_visible(False)
    gap = bounds[NONE] - bounds[FULL]
    near.set_ylim(bounds[FULL] - 0.3 * gap, bounds[NONE] + 1.5 * gap)
    near.set_title("near the bounds", fontsize=10)
    whole.set_ylabel("next-token loss (nats per token)")
    whole.legend(frameon=False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
