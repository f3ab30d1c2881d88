r"""
The label tree in Graphviz' language: drawn by `dot -Tsvg`, edited by hand, read back.

The dialect has one statement a line: a node or one edge. `"root" -> "cats" [order=0];` gives the
output of a child; without it the order of the lines counts. A node without children is a label: its
`label`, or else its identifier, is the label's name. Names stand in quotes, \" and \\ inside them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import networkx as nx

from train.errors import BadHierarchy
from train.tree import hierarchy

_NAME = r'"(?:[^"\\]|\\.)*"|[\w.]+'
_ATTRIBUTES = rf"\s*(?:\[(?P<attributes>(?:{_NAME}|[^\]\"])*)\])?\s*;?\s*"
_NODE = re.compile(rf"\s*(?P<node>{_NAME}){_ATTRIBUTES}")
_EDGE = re.compile(rf"\s*(?P<parent>{_NAME})\s*->\s*(?P<child>{_NAME}){_ATTRIBUTES}")
_ATTRIBUTE = re.compile(rf"(\w+)\s*=\s*({_NAME})")
_SKIPPED = re.compile(
    r"\s*(?:(?://|#).*|(?:strict\s+)?digraph\b[^{]*\{|\}|(?:graph|node|edge)\s*\[.*\]\s*;?|\w+\s*=.*)?\s*"
)


@dataclass(slots=True)
class _Parsed:
    """What the lines said: names as they stand there."""

    labels: dict[str, str] = field(default_factory=dict)
    edges: dict[tuple[str, str], int] = field(default_factory=dict)
    """Parent and child to the order among siblings."""


def to_dot(graph: nx.DiGraph, names: Sequence[str]) -> str:
    """
    Returns the hierarchy in Graphviz' language, the same text for equal trees.

    Boxes decide by a network of their own, dashed ones have nothing to decide; `names` are those
    of the labels, in leaf order.
    """
    lines = ["digraph hierarchy {"]
    for node, data in sorted(graph.nodes(data=True)):
        if data["kind"] == "label":
            told = f"shape=plaintext, label={_quoted(names[data['label']])}"
        else:
            told = "shape=box" if data["net"] else "shape=box, style=dashed"
        lines.append(f"  {_quoted(node)} [{told}];")
    for parent in sorted(graph):
        lines += [
            f"  {_quoted(parent)} -> {_quoted(child)} [order={order}];"
            for order, child in enumerate(hierarchy.children(graph, parent))
        ]
    return "\n".join([*lines, "}", ""])


def from_dot(text: str, names: Sequence[str]) -> nx.DiGraph:
    """
    Returns the hierarchy over the labels `names` that a text of this dialect describes.

    The root and the labels are renamed as everywhere, other nodes keep their names. A node has a
    network where it has more than one child, as in `hierarchy.from_nested`.

    Raises:
        BadHierarchy: A line is not of the dialect, a name is no label, or it is no hierarchy over
            all of them.
    """
    parsed = _parse(text)
    plain = nx.DiGraph(list(parsed.edges))
    roots = [node for node in plain if plain.in_degree(node) == 0]
    if len(roots) != 1 or not nx.is_directed_acyclic_graph(plain):
        raise BadHierarchy(
            f"The hierarchy has the roots {roots} or a cycle: its edges must lead from one root to "
            "the labels."
        )
    leaves = {
        node: hierarchy.leaf_of(parsed.labels.get(node, node), names)
        for node in plain
        if plain.out_degree(node) == 0
    }
    renamed = {roots[0]: hierarchy.ROOT} | {node: f"label-{leaf}" for node, leaf in leaves.items()}
    names_left = [renamed.get(node, node) for node in plain]
    twice = sorted({name for name in names_left if names_left.count(name) > 1})
    if twice:
        raise BadHierarchy(
            f"The nodes {twice} stand there twice: each label must have one node, and 'root' and "
            "'label-NUMBER' are names of ours. Rename a node."
        )
    graph = nx.DiGraph()
    for node in plain:
        graph.add_node(renamed.get(node, node), **_fields(plain, node, leaves, renamed))
        below = sorted(plain.successors(node), key=lambda child: parsed.edges[node, child])
        for order, child in enumerate(below):
            graph.add_edge(renamed.get(node, node), renamed.get(child, child), order=order)
    hierarchy.validate(graph, len(names))
    return graph


def _fields(
    plain: nx.DiGraph, node: str, leaves: dict[str, int], renamed: dict[str, str]
) -> dict[str, object]:
    if node in leaves:
        return {"kind": "label", "label": leaves[node], "members": (leaves[node],), "net": None}
    name = renamed.get(node, node)
    return {
        "kind": "root" if name == hierarchy.ROOT else "cluster",
        "members": tuple(sorted(leaves[one] for one in nx.descendants(plain, node) & set(leaves))),
        "net": name if plain.out_degree(node) > 1 else None,
    }


def _parse(text: str) -> _Parsed:
    found = _Parsed()
    for number, line in enumerate(text.splitlines(), start=1):
        edge, node = _EDGE.fullmatch(line), _NODE.fullmatch(line)
        if _SKIPPED.fullmatch(line):
            continue
        if edge:
            pair = (_plain(edge["parent"]), _plain(edge["child"]))
            told = _attributes(edge["attributes"]).get("order", str(len(found.edges)))
            if not told.isdecimal():
                raise BadHierarchy(f"Line {number}: order={told} is no whole number from 0 up.")
            found.edges[pair] = int(told)
        elif node:
            attributes = _attributes(node["attributes"])
            if "label" in attributes:
                found.labels[_plain(node["node"])] = attributes["label"]
        else:
            raise BadHierarchy(
                f"Line {number} is no node and no single edge: {line.strip()!r}. Write one "
                'statement a line, such as "cats" -> "siamese"; with names in quotes.'
            )
    return found


def _attributes(text: str | None) -> dict[str, str]:
    return {name: _plain(value) for name, value in _ATTRIBUTE.findall(text or "")}


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _plain(token: str) -> str:
    return re.sub(r"\\(.)", r"\1", token[1:-1]) if token.startswith('"') else token
