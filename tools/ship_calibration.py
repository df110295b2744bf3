"""Put the calibrations of a fitted `two_pass` adapter where they ship: python tools/ship_calibration.py ADAPTER

With `--default WHY` the layers they are of are recorded for the experts that ship: `two_pass` then takes its
relevance from them unless told otherwise. Calibrations and records of other weights than those of the experts that
ship are taken away: nobody would find them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from harness._util.files import write_whole
from harness.models import adapters
from harness.plugins.two_pass import layers
from harness.plugins.two_pass.calibration import Calibration

SHIPPED = Path(__file__).resolve().parents[1] / "baselines"


def main(folder: Path, default: str | None) -> None:
    """Copy every calibration of `folder` under the name it is looked for by; `default` says why its layers are."""
    target = SHIPPED / "calibrations"
    target.mkdir(exist_ok=True)
    experts = adapters.fingerprint(SHIPPED / "adapters" / "smollm2" / "lora_experts")
    found = [
        Calibration.from_json((folder / name).read_text(encoding="utf-8"), folder / name)
        for name in adapters.read_card(folder)["files"]
    ]
    if other := [c for c in found if c.key["beacon_weights"] != experts]:
        raise SystemExit(
            f"{folder}: calibrated for other weights than ship ({other[0].key['beacon_weights']})"
        )
    for made in found:
        path = target / made.name
        if path.exists():  # other numbers of intervals for the same key: numbers made apart are the same
            there = Calibration.from_json(path.read_text(encoding="utf-8"), path)
            made.mean, made.std = {**there.mean, **made.mean}, {**there.std, **made.std}
        write_whole(path, made.to_json())
    for path in target.glob("*.json"):
        if Calibration.from_json(path.read_text(encoding="utf-8"), path).key["beacon_weights"] != experts:
            path.unlink()
    if default is not None:
        for path in (SHIPPED / layers.KIND).glob("*.json"):
            path.unlink()
        listened = found[0].key.get("layers", layers.ALL)
        write_whole(
            SHIPPED / layers.KIND / layers.record_name(experts), layers.record(experts, listened, default)
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--default", metavar="WHY")
    args = parser.parse_args()
    main(args.adapter, args.default)
