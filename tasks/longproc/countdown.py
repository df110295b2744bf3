"""Countdown: four numbers become a target; the search that shows how, and what an answer's equations are worth."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from harness.errors import UsageError

DEMOS = (((40, 19, 23, 7), 29), ((9, 16, 6, 18), 12))
"""The numbers and targets that the official prompt shows worked out."""
LARGEST = 2000
"""Results from here on end a branch."""
HEAD = "# Search Procedure"
FOUND = "Now we have found the target"
OPERATORS = "+-*/"


def demonstration(numbers: Sequence[int], target: int) -> str:
    """The search for `target`, line by line as the official code writes it, and the solution it finds.

    Raises
    ------
    UsageError
        If there is no solution.
    """
    lines: list[str] = []
    steps = _search(list(numbers), target, 0, "", lines)
    if steps is None or len(steps) != 3:
        raise UsageError(f"numbers {list(numbers)} do not become {target} in three steps")
    first, second, last = steps
    traced = f"Final step: {last}\nThe step before: {second}\nThe first step: {first}"
    told = (
        f"Output the solution in the required format:\n<Solution>\n{first}\n{second}\n{last}\n</Solution>\n"
    )
    return f"{HEAD}\n{chr(10).join(lines)}\n\n{FOUND}, let's trace back the solution:\n{traced}\n\n{told}"


def demos() -> str:
    """The worked examples of the prompt."""
    return "\n\n".join(
        f"# Example\nNumbers: {list(numbers)}\nTarget: {target}\n\n{demonstration(numbers, target)}"
        for numbers, target in DEMOS
    )


def solves(numbers: Sequence[int], target: int, solution: str) -> bool:
    """Whether three equations use each number once, each result too, and end at the target.

    Officially the model's words are evaluated as code; here an equation is two whole numbers, an operator between them
    and a result, which is what the official rule accepts beyond that.
    """
    left = list(numbers)
    lines = solution.split("\n")
    if len(lines) != 3:
        return False
    for line in lines:
        step = _equation(line)
        if step is None:
            return False
        first, second, result = step
        for used in (first, second):
            if used not in left:
                return False
            left.remove(used)
        left.append(result)
    return left[0] == target


def followed(procedure: str, wanted: str) -> float:
    """The share of the lines of the right search before the first that differs in what it does; less than 0 for none.

    What is computed counts up to the equals sign, and whether the branch is dropped. The line that differs is counted
    as officially by its number, so that a search without a mistake has not quite 1.
    """
    said, right = procedure.strip().split("\n"), wanted.strip().split("\n")
    if said[0] != right[0]:
        return 0.0
    both = list(zip(said[1:], right[1:]))
    wrong = (at for at, (line, gold) in enumerate(both) if line != gold and not _same_step(line, gold))
    return next(wrong, len(both) - 1) / (len(right) - 1)


def _same_step(line: str, gold: str) -> bool:
    if "Pick two numbers" in gold:
        return False
    dropped = "drop this branch"
    return line.split("=")[0] == gold.split("=")[0] and (dropped in line) == (dropped in gold)


def _search(numbers: list[int], target: int, depth: int, step: str, lines: list[str]) -> list[str] | None:
    """The equations from here to the target, the first first; None if there are none. What is tried joins `lines`."""
    options = list(combinations(numbers, 2))
    if step:
        lines.append(f"{_indent(depth)}Try {step}. ")
        if len(numbers) == 1:
            hit = numbers[0] == target
            lines[-1] += f"Evaluate {numbers[0]} {'==' if hit else '!='} {target}, "
            lines[-1] += "target found!" if hit else "drop this branch."
            return [] if hit else None
        ending = "just two numbers left." if len(numbers) == 2 else ""
        lines[-1] += f"Add {numbers[0]} to the number set. Current number set: {numbers}, target: {target}"
    else:
        lines.append(f"Initial number set: {numbers}, target: {target}")
        ending = ""
    lines[-1] += f", {ending}" if ending else f". Options for choosing two numbers: {options}."
    depth += not ending
    for i, j in combinations(range(len(numbers)), 2):
        others = [number for k, number in enumerate(numbers) if k not in (i, j)]
        if others:
            pair = f"({numbers[i]}, {numbers[j]})"
            lines.append(
                f"{_indent(depth)}Pick two numbers {pair} (numbers left: {others}). Try possible operations."
            )
        found = _tried(numbers[i], numbers[j], others, target, depth + 1, lines)
        if found is not None:
            return found
    return None


def _tried(
    first: int, second: int, others: list[int], target: int, depth: int, lines: list[str]
) -> list[str] | None:
    """The equations to the target that begin with one of the four operations on two numbers."""
    a, b = max(first, second), min(first, second)
    results = [a + b, a - b, a * b, a // b if b and a % b == 0 else None]
    for operator, result in zip(OPERATORS, results):
        if result is None:
            why = (
                f"{a} / {b} = {a / b:.1f}. {a / b:.1f} is a decimal"
                if b
                else f"{a} / {b} (invalid operation)"
            )
            lines.append(f"{_indent(depth)}Try {why}{', ' if b else '. '}drop this branch.")
            continue
        step = f"{a} {operator} {b} = {result}"
        if result >= LARGEST:
            lines.append(
                f"{_indent(depth)}Try {step}. {result} exceeds the maximum intermediate result, drop this branch."
            )
            continue
        found = _search([result, *others], target, depth, step, lines)
        if found is not None:
            return [step, *found]
    return None


def _equation(line: str) -> tuple[int, int, int] | None:
    """Both numbers and the result of a line that is right; None of any other."""
    sides = line.strip().split("=")
    operator = next((each for each in OPERATORS if each in sides[0]), None)
    if len(sides) != 2 or operator is None:
        return None
    parts = sides[0].split(operator)
    try:
        first, second, result = (int(text) for text in (*parts, sides[1]))
    except ValueError:
        return None
    value = {
        "+": first + second,
        "-": first - second,
        "*": first * second,
        "/": first / second if second else None,
    }[operator]
    return (first, second, result) if value == result else None


def _indent(depth: int) -> str:
    return f"{' ' * depth}|- " if depth else ""
