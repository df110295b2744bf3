"""``harness doctor``: versions, devices, memory, and what is missing."""

from __future__ import annotations

from typing import Any

import rich_click as click

from ._output import emit, json_flag, quiet_flag, say

GIB = 1024**3


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@json_flag("what was found")
@quiet_flag
def doctor(as_json: bool) -> int:
    """Show what a run will find here: versions, devices, memory, what is missing and how to get it.

    The exit status is 1 if a package that everything needs is missing, or a plugin is broken.
    """
    from ._doctor import examine

    found = examine()
    lacking = [row for row in found["missing"] if row["extra"] is None]
    if as_json:
        emit(found)
    else:
        for line in lines(found):
            say(line, copied=line.startswith("missing"))  # which holds a command
    return 1 if lacking or found["broken"] else 0


def lines(found: dict[str, Any]) -> list[str]:
    """The findings for people."""
    about, memory, cache = found["environment"], found["memory"], found["cache"]
    versions = ", ".join(f"{name} {version or 'missing'}" for name, version in about["packages"].items())
    at, _, changes = (about["commit"] or "").partition("+")
    commit = f", commit {at[:12]}{' with changes' if changes else ''}" if at else ""
    named = f"{about['processor']}, " if about["processor"] else ""
    shown = [
        f"harness   {about['harness']}{commit}",
        f"python    {about['python']} on {about['system']}",
        f"packages  {versions}",
        f"cpu       {named}{about['cpus']} cores, torch uses {about['threads']}; memory {_of(memory)}",
    ]
    for device in found["devices"]:
        shown.append(f"{device['device']:9} {device['name']}; memory {_of(device)}")
    if not found["devices"]:
        shown.append("gpu       none that torch can use: runs are on the CPU")
    types = [f"{'bfloat16' if native else 'float32'} on {kind}" for kind, native in found["bfloat16"].items()]
    shown.append(f"precision --dtype auto takes {', '.join(types)} (narrow models: float32 on cpu)")
    models = ", ".join(cache["models"]) or "no model yet"
    shown.append(f"cache     {cache['folder']}: {models}; {cache['free'] / GIB:.1f} GiB free there")
    for row in found["missing"]:
        need = f"optional, extra {row['extra']}" if row["extra"] else "NEEDED"
        shown.append(f"missing   {row['name']} ({need}): {row['pip']}")
    shown += [f"broken    {' '.join(line.split())}" for line in found["broken"]]
    return shown


def _of(memory: dict[str, Any]) -> str:
    if memory["total"] is None:
        return "unknown"
    free = "" if memory["free"] is None else f", {memory['free'] / GIB:.1f} free"
    return f"{memory['total'] / GIB:.1f} GiB{free}"
