"""Python programs that a model writes step by step, and the true tree of their calls.

A step is kept only if `ast` reads it as the very thing it was meant to be; what a model wrote is never run.
"""

from __future__ import annotations

import ast
import builtins
import keyword
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

ACTIONS = ("variables", "function", "call")
STEPS = 7
MOST_VARIABLES = 3
MOST_LINES = 14
_BUILTINS = frozenset(name for name in dir(builtins) if not name.startswith("_")) - {"eval", "exec", "open"}
_SNAKE = re.compile(r"\b[a-z][a-z0-9]*(?:_[a-z0-9]+)+\b")
_NOT_IN_FUNCTIONS = (
    *(ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal, ast.ClassDef, ast.Lambda, ast.Delete, ast.Await),
    *(ast.AsyncFunctionDef, ast.Yield, ast.YieldFrom, ast.NamedExpr),
)


@dataclass
class Program:
    """What is defined so far, and what came from what.

    Attributes
    ----------
    functions
        Name and number of parameters.
    produced
        Variable and the function whose call produced it.
    used
        Variable and the variables its defining line names, in that order; none for an initial value.
    block
        Variable or function and the number of the block that defines it.
    """

    functions: dict[str, int] = field(default_factory=dict)
    produced: dict[str, str] = field(default_factory=dict)
    used: dict[str, list[str]] = field(default_factory=dict)
    block: dict[str, int] = field(default_factory=dict)

    @property
    def variables(self) -> list[str]:
        return list(self.used)

    def participants(self, variable: str) -> list[str]:
        """Every variable that took part in computing one, directly or not, in order of definition."""
        seen: set[str] = set()
        waiting = list(self.used[variable])
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += self.used[name]
        return [name for name in self.used if name in seen]


def actions(rng: random.Random) -> list[str]:
    """The steps of a program: variables, a function and a call first, a call last, anything between."""
    return [*ACTIONS, *(rng.choice(ACTIONS) for _ in range(STEPS - 4)), "call"]


def trace(blocks: Sequence[str]) -> Program:
    """The tree of a program, read from its code alone.

    Raises
    ------
    ValueError
        If a statement is none that a step may consist of, or a name is defined twice or not at all.
    """
    program = Program()
    for number, code in enumerate(blocks):
        for node in ast.parse(code).body:
            _follow(program, node, number)
    return program


def _follow(program: Program, node: ast.stmt, number: int) -> None:
    if isinstance(node, ast.FunctionDef):
        if not valid_function(node, program):
            raise ValueError(f"line {node.lineno} is no function of its arguments")
        program.functions[node.name] = len(node.args.args)
        program.block[node.name] = number
        return
    if not (
        isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)
    ):
        raise ValueError(f"line {node.lineno} is no assignment to one variable")
    target = node.targets[0].id
    if not _is_new(target, program):
        raise ValueError(f"{target} is defined twice")
    if isinstance(node.value, ast.Call):
        function, arguments = called(node.value, program)
        program.produced[target], program.used[target] = function, arguments
    elif _is_value(node.value, program):
        program.used[target] = _names(node.value)
    else:
        raise ValueError(f"line {node.lineno} is no value")
    program.block[target] = number


def called(node: ast.Call, program: Program) -> tuple[str, list[str]]:
    """Function and arguments of ``f(a, b)``; raises ValueError unless all are known and their number fits."""
    names = [argument.id for argument in node.args if isinstance(argument, ast.Name)]
    if not isinstance(node.func, ast.Name) or program.functions.get(node.func.id) != len(node.args):
        raise ValueError("no call of a known function")
    if len(names) < len(node.args) or node.keywords or not set(names) <= set(program.used):
        raise ValueError("an argument is no known variable")
    return node.func.id, names


def valid_function(node: ast.FunctionDef, program: Program) -> bool:
    """Whether a function returns something made of its parameters alone: nothing reaches it from outside."""
    a = node.args
    if a.posonlyargs or a.kwonlyargs or a.vararg or a.kwarg or a.defaults or node.decorator_list:
        return False
    parameters = [argument.arg for argument in a.args]
    if not 1 <= len(parameters) <= 3 or not _is_new(node.name, program):
        return False
    inner = [child for statement in node.body for child in ast.walk(statement)]
    if any(isinstance(child, (ast.FunctionDef, *_NOT_IN_FUNCTIONS)) for child in inner):
        return False
    names = [child for child in inner if isinstance(child, ast.Name)]
    own = {*parameters, *(name.id for name in names if isinstance(name.ctx, ast.Store))}
    read = {name.id for name in names if isinstance(name.ctx, ast.Load)}
    if any(isinstance(c, (ast.Attribute, ast.Subscript)) and isinstance(c.ctx, ast.Store) for c in inner):
        return False  # an argument that is changed would be an effect that the tree does not show
    returns = any(isinstance(child, ast.Return) and child.value is not None for child in inner)
    known = own | _BUILTINS | set(program.functions)
    return returns and bool(read & set(parameters)) and read <= known and node.name not in read


def variables_step(text: str, slug: str, program: Program, rng: random.Random) -> tuple[str, str] | None:
    """(code, origin) of new variables; their names begin with `slug`. None if there is not even a name.

    ``"model"``: lines that the model wrote. ``"repaired"``: names that it wrote, with numbers of ours.
    """
    kept: dict[str, str] = {}
    for line in code_of(text).splitlines():
        node = _statement(line.strip())
        if not (isinstance(node, ast.Assign) and len(node.targets) == 1):
            continue
        target = node.targets[0]
        if not isinstance(target, ast.Name) or not _is_value(node.value, program):
            continue
        name = named(target.id, slug)
        if name and _is_new(name, program) and len(kept) < MOST_VARIABLES:
            kept.setdefault(name, f"{name} = {ast.unparse(node.value)}")
    if kept:
        return "\n".join(kept.values()), "model"
    names = [name for name in _invented(text, slug) if _is_new(name, program)][:MOST_VARIABLES]
    if not names:
        return None
    return "\n".join(f"{name} = {rng.randint(2, 99)}" for name in names), "repaired"


def function_step(text: str, slug: str, program: Program) -> tuple[str, str] | None:
    """(code, origin) of a new function; ``"repaired"``: the model's name and parameters, a body of ours."""
    code = code_of(text)
    start = re.search(r"^def \w+", code, re.MULTILINE)
    lines = code[start.start() :].splitlines()[:MOST_LINES] if start else []
    for end in range(len(lines), 1, -1):
        node = _statement("\n".join(lines[:end]))
        if not isinstance(node, ast.FunctionDef):
            continue
        name = named(node.name, slug)
        if not name:
            break
        node.name = name
        if valid_function(node, program):
            return ast.unparse(node), "model"
        break
    match = re.search(r"def (\w+)\s*\(([^)]*)\)", text)
    names = [named(match[1], slug)] if match else _invented(text, slug)
    name = next((n for n in names if n and _is_new(n, program)), None)
    if name is None:
        return None
    given = re.findall(r"\w+", match[2]) if match else []
    parameters = [p for p in dict.fromkeys(given) if p.isidentifier() and not keyword.iskeyword(p)][:3]
    if len(parameters) < 2:
        parameters = ["first", "second"]
    return f"def {name}({', '.join(parameters)}):\n    return {' + '.join(parameters)}", "repaired"


def call_step(
    text: str, slug: str, program: Program, function: str, arguments: Sequence[str]
) -> tuple[str, str] | None:
    """(code, origin) of a call; ``"repaired"``: the call that was asked for, its result under the model's name.

    Without any name in the answer the result is named after the function, whose name is the model's too.
    """
    for line in code_of(text).splitlines():
        node = _statement(line.strip())
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.value, ast.Call):
            target = node.targets[0]
            name = named(target.id, slug) if isinstance(target, ast.Name) else None
            try:
                called(node.value, program)
            except ValueError:
                continue
            if name and _is_new(name, program):
                return f"{name} = {ast.unparse(node.value)}", "model"
    match = re.search(r"^\W*([A-Za-z_]\w*)\s*=", text, re.MULTILINE)
    names = [*([named(match[1], slug)] if match else []), *_invented(text, slug)]
    if text.strip() and function:
        names += [f"{function}_result{number or ''}" for number in range(STEPS)]
    name = next((n for n in names if n and _is_new(n, program)), None)
    return (f"{name} = {function}({', '.join(arguments)})", "repaired") if name else None


def code_of(text: str) -> str:
    """The code in an answer: what is between the first fences, else all of it."""
    match = re.search(r"```(?:\w+)?\n(.*?)(?:```|\Z)", text, re.DOTALL)
    return match[1] if match else text


def slug_of(noun: str) -> str:
    """A noun as the beginning of a Python name."""
    slug = re.sub(r"\W+", "_", noun.lower(), flags=re.ASCII).strip("_")
    return slug if slug[:1].isalpha() else f"n_{slug}"


def named(name: str, slug: str) -> str | None:
    """A name that begins with the program's noun, so that programs in one context share none; None: no name."""
    name = name.lower().strip("_")
    if not name.isascii() or not name.isidentifier() or keyword.iskeyword(name) or len(name) > 40:
        return None
    return name if name.startswith(f"{slug}_") else f"{slug}_{name}"


def _invented(text: str, slug: str) -> list[str]:
    found = [named(name, slug) for name in _SNAKE.findall(text)]
    return [name for name in dict.fromkeys(found) if name]


def _is_new(name: str, program: Program) -> bool:
    return name not in program.functions and name not in program.used and name not in _BUILTINS


def _statement(code: str) -> ast.stmt | None:
    try:
        body = ast.parse(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return body[0] if len(body) == 1 else None


def _is_value(node: ast.expr, program: Program) -> bool:
    """A literal, or arithmetic on literals and known variables."""
    if isinstance(node, ast.BinOp):
        return _is_value(node.left, program) and _is_value(node.right, program)
    if isinstance(node, ast.Name):
        return node.id in program.used
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return False
    return len(ast.unparse(node)) <= 120


def _names(node: ast.expr) -> list[str]:
    return list(dict.fromkeys(child.id for child in ast.walk(node) if isinstance(child, ast.Name)))
