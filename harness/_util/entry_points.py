"""Entry points of installed packages: who claims which name."""

from __future__ import annotations

from importlib import metadata


def claims(group: str) -> dict[str, list[metadata.EntryPoint]]:
    """Everything named under ``harness.<group>``; more than one claimant of a name if they name other things."""
    found: dict[str, list[metadata.EntryPoint]] = {}
    for point in metadata.entry_points(group=f"harness.{group}"):
        claimants = found.setdefault(point.name, [])
        # The same class twice is one installation that left its traces in two places.
        if all(other.value != point.value for other in claimants):
            claimants.append(point)
    return found


def entry_points(group: str) -> dict[str, metadata.EntryPoint]:
    """Entry points of ``harness.<group>`` by name; a name that two distributions claim is nobody's."""
    return {name: points[0] for name, points in claims(group).items() if len(points) == 1}


def origin(point: metadata.EntryPoint) -> str:
    """The distribution an entry point belongs to, for messages."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"
