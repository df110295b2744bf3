"""Time `beacon` beside plain full attention on the same prompt, in one process, and show how it splits.

python tools/beacon_speed.py --tokens 8192 --ratio 8 --threads 2
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable

import torch

from harness.inference import KVCache, feed
from harness.models import attention, load
from harness.plugins.beacon.engine import ActivationBeacon
from harness.plugins.beacon.projections import MultiHeadBeacon
from harness.plugins.beacon.reading import Reading

seconds: dict[str, float] = defaultdict(float)


def timed(name: str, function: Callable[..., object]) -> Callable[..., object]:
    """`function`, its wall-clock time booked under `name`."""

    def wrapper(*args: object, **kwargs: object) -> object:
        start = time.perf_counter()
        found = function(*args, **kwargs)
        seconds[name] += time.perf_counter() - start
        return found

    return wrapper


def main() -> None:
    """Run each once for warmth on a short prompt, then alternate, and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--ratio", type=int, default=8)
    parser.add_argument("--interval", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = load(args.model)
    network = model.network
    ids = torch.randint(
        100, model.config.vocab_size, (args.tokens,), generator=torch.Generator().manual_seed(0)
    )
    prompt = ids.tolist()
    engine = ActivationBeacon(network, MultiHeadBeacon(network), args.interval)

    layers = network.model.layers
    clock = [0.0]

    def watch(part: str) -> None:
        for layer in layers:
            module = layer.self_attn if part == "attention" else layer.mlp
            hooks.append(
                module.register_forward_pre_hook(lambda *_: clock.__setitem__(0, time.perf_counter()))
            )
            hooks.append(
                module.register_forward_hook(
                    lambda *_: seconds.__setitem__(part, seconds[part] + time.perf_counter() - clock[0])
                )
            )

    hooks: list[torch.utils.hooks.RemovableHandle] = []
    full, beacon, splits = [], [], []
    setattr(attention, "scaled", timed("attention's kernel", attention.scaled))  # noqa: B010
    with torch.no_grad():
        feed(network, [KVCache()], [prompt[:512]])
        for _ in range(args.rounds):
            start = time.perf_counter()
            feed(network, [KVCache()], [prompt])
            full.append(time.perf_counter() - start)
            seconds.clear()
            watch("attention")
            watch("mlp")
            start = time.perf_counter()
            engine.read([Reading()], [prompt], lambda row, window: args.ratio)
            beacon.append(time.perf_counter() - start)
            splits.append(dict(seconds))
            while hooks:
                hooks.pop().remove()
    middle = sorted(range(args.rounds), key=beacon.__getitem__)[args.rounds // 2]
    print(
        f"{args.tokens} tokens, interval {args.interval}, ratio {args.ratio}, {args.threads} threads, {model.dtype}"
    )
    print(
        f"full attention  {sorted(full)[args.rounds // 2]:6.2f} s  (all: {', '.join(f'{t:.2f}' for t in full)})"
    )
    print(f"beacon          {beacon[middle]:6.2f} s  (all: {', '.join(f'{t:.2f}' for t in beacon)})")
    print(f"beacon / full   {sorted(b / f for b, f in zip(beacon, full))[args.rounds // 2]:6.2f}")
    parts = splits[middle]
    for name in ("attention's kernel", "attention", "mlp"):
        print(f"  {name:20}{parts[name]:6.2f} s  {100 * parts[name] / beacon[middle]:3.0f} %")
    print("attention: projections, rotary embedding, entries written and read, and its kernel")


if __name__ == "__main__":
    main()
