"""Walks on graphs of our own making in the manner of GraphWalks: a list of edges, and a question about one node.

The wording is ours; scores on these questions are comparable with no published ones.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from harness.contracts import Prompt
from harness.errors import UsageError

HEX = "0123456789abcdef"
NODE = 8
"""Characters of a node's name."""
DEPTHS = (1, 2, 3)
INSTRUCTION = (
    "Below is a directed graph as a list of edges, one a line: a -> b says that an edge leads from node a to node b. "
    "After the list stands a task. Solve it, and give as the last line of your reply\nFinal Answer: [node, node, ...]\n"
    "with the nodes in any order and nothing behind the bracket, or Final Answer: [] if there is none.\n\n"
    "The graph has the following edges:\n"
)
BFS = "Name all nodes that lie exactly {depth} edges away from node {node}, by the shortest way along the edges."
PARENTS = "Name all nodes from which an edge leads to node {node}."

Found = tuple[str, Prompt, tuple[str, ...], dict[str, object]]


def own_walks(length: int, seed: int, count: Callable[[Prompt], int]) -> Iterator[Found]:
    """Id, prompt, nodes asked for and facts, without end, of one length in tokens; kinds of question in turns.

    Question i depends on seed, length, tokenizer and i alone.

    Raises
    ------
    UsageError
        If not even a few edges fit the length.
    """
    number = 0
    while True:
        kind = ("bfs", "parents")[number % 2]
        yield _walk(random.Random(f"graphwalks-like {seed} {length} {number}"), kind, length, number, count)
        number += 1


def _walk(rng: random.Random, kind: str, length: int, number: int, count: Callable[[Prompt], int]) -> Found:
    edges = 8
    best: tuple[list[tuple[str, str]], str, set[str], int] | None = None
    graph_seed = rng.random()
    low, high = edges, 0
    size = 0
    while True:  # twice as many edges while they fit, then halving between
        made = _graph(random.Random(graph_seed), edges, kind, number)
        size = count(_prompt(kind, *made))
        if size <= length:
            best, low = made, edges
        else:
            high = edges
        if high and high - low <= max(1, low // 64):
            break
        edges = (low + high) // 2 if high else 2 * edges
    if best is None:
        raise UsageError(f"graphwalks: eight edges take {size} tokens, more than the length {length}")
    graph, node, nodes, depth = best
    facts: dict[str, object] = {"problem_type": kind, "length": length, "edges": len(graph)}
    if kind == "bfs":
        facts["depth_of_search"] = depth
    return f"{length}-{number:04d}", _prompt(kind, graph, node, nodes, depth), tuple(sorted(nodes)), facts


def _graph(
    rng: random.Random, edges: int, kind: str, number: int
) -> tuple[list[tuple[str, str]], str, set[str], int]:
    """Edges in random order, the node asked about, the nodes that answer, and the depth of a search."""
    nodes = ["".join(rng.choices(HEX, k=NODE)) for _ in range(max(4, edges // 2))]
    graph = {(a, b) for a, b in ((rng.choice(nodes), rng.choice(nodes)) for _ in range(edges)) if a != b}
    listed = sorted(graph)
    rng.shuffle(listed)
    node = rng.choice(listed)[kind == "parents"]
    if kind == "parents":
        return listed, node, {a for a, b in listed if b == node}, 0
    depth = DEPTHS[number // 2 % len(DEPTHS)]
    return listed, node, reached(listed, node, depth), depth


def reached(edges: list[tuple[str, str]], node: str, depth: int) -> set[str]:
    """The nodes at exactly so many edges from `node` by the shortest way."""
    out: dict[str, list[str]] = {}
    for a, b in edges:
        out.setdefault(a, []).append(b)
    seen, ring = {node}, {node}
    for _ in range(depth):
        ring = {b for a in ring for b in out.get(a, ())} - seen
        seen |= ring
    return ring


def _prompt(kind: str, graph: list[tuple[str, str]], node: str, nodes: set[str], depth: int) -> Prompt:
    asked = (BFS if kind == "bfs" else PARENTS).format(node=node, depth=depth)
    context = "".join(f"{a} -> {b}\n" for a, b in graph)
    return Prompt(INSTRUCTION, context, f"\nTask:\n{asked}\n", asked)
