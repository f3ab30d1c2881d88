r"""
Reads and writes the label tree in Graphviz' DOT language, so that `dot -Tsvg` can draw it.

The reader takes one `digraph` without subgraphs. An edge leads from a node to its child; the edge
attribute `order` is the child's output index, and edges without it count in the order of the text.
A node without children is a label: its attribute `label`, or else its identifier, is the label's
name. `pydot` parses the text; nothing in a file is executed or opened.
"""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import networkx as nx

from train.errors import BadHierarchy
from train.tree import hierarchy

LARGEST = 256 * 1024
"""Characters that a DOT text may have: about 2,500 labels. pydot needs some 15 s for as many."""


@dataclass(slots=True)
class _Statements:
    """Names of nodes as the text has them, without quotes."""

    labels: dict[str, str] = field(default_factory=dict)
    """Node to its attribute `label`."""
    orders: dict[tuple[str, str], int] = field(default_factory=dict)
    """Parent and child to the rank of the child among its siblings."""


def to_dot(graph: nx.DiGraph, names: Sequence[str]) -> str:
    """
    Returns the DOT text of a hierarchy, the same text for equal hierarchies.

    A node with a network is a box, a node with one child a dashed box, and a label plain text.

    Args:
        graph: The hierarchy.
        names: Names of the labels, in leaf order.
    """
    lines = ["digraph hierarchy {"]
    for node, data in sorted(graph.nodes(data=True)):
        if data["kind"] == "label":
            attributes = f"shape=plaintext, label={_quoted(names[data['label']])}"
        else:
            attributes = "shape=box" if data["net"] else "shape=box, style=dashed"
        lines.append(f"  {_quoted(node)} [{attributes}];")
    for parent in sorted(graph):
        lines += [
            f"  {_quoted(parent)} -> {_quoted(child)} [order={order}];"
            for order, child in enumerate(hierarchy.children(graph, parent))
        ]
    return "\n".join([*lines, "}", ""])


def from_dot(text: str, names: Sequence[str]) -> nx.DiGraph:
    """
    Returns the hierarchy over the labels `names` that a DOT text describes.

    The root becomes `root` and a label `label-LEAF`; other nodes keep their names. A node has a
    network if it has more than one child, as in `hierarchy.from_nested`.

    Raises:
        BadHierarchy: The text is longer than `LARGEST` or no DOT, it has a subgraph or a port, a
            name is no label, or the edges are no hierarchy over all labels.
    """
    statements = _parse(text)
    edges = nx.DiGraph(list(statements.orders))
    roots = [node for node in edges if edges.in_degree(node) == 0]
    if len(roots) != 1 or not nx.is_directed_acyclic_graph(edges):
        raise BadHierarchy(
            f"The hierarchy has the roots {roots} or a cycle: its edges must lead from one root to "
            "the labels."
        )
    leaves = {
        node: hierarchy.leaf_of(statements.labels.get(node, node), names)
        for node in edges
        if edges.out_degree(node) == 0
    }
    renamed = {node: node for node in edges}
    renamed |= {roots[0]: hierarchy.ROOT}
    renamed |= {node: f"label-{leaf}" for node, leaf in leaves.items()}
    new_names = list(renamed.values())
    repeated = sorted({name for name in new_names if new_names.count(name) > 1})
    if repeated:
        raise BadHierarchy(
            f"Several nodes would be called {repeated}: each label must have one node, and 'root' "
            "and 'label-NUMBER' are reserved names. Rename a node."
        )
    graph = nx.DiGraph()
    for node in edges:
        graph.add_node(renamed[node], **_attributes(edges, node, leaves, renamed))
        children = sorted(edges.successors(node), key=lambda child: statements.orders[node, child])
        for order, child in enumerate(children):
            graph.add_edge(renamed[node], renamed[child], order=order)
    hierarchy.validate(graph, len(names))
    return graph


def _attributes(
    edges: nx.DiGraph, node: str, leaves: dict[str, int], renamed: dict[str, str]
) -> dict[str, object]:
    if node in leaves:
        return {"kind": "label", "label": leaves[node], "members": (leaves[node],), "net": None}
    name = renamed[node]
    below = nx.descendants(edges, node) & set(leaves)
    return {
        "kind": "root" if name == hierarchy.ROOT else "cluster",
        "members": tuple(sorted(leaves[leaf] for leaf in below)),
        "net": name if edges.out_degree(node) > 1 else None,
    }


def _parse(text: str) -> _Statements:
    with warnings.catch_warnings():
        # pydot 4.0 calls pyparsing by names that pyparsing 3.3 deprecates.
        warnings.simplefilter("ignore", DeprecationWarning)
        from pydot.dot_parser import GraphParser
    from pyparsing import ParseException

    if len(text) > LARGEST:
        raise BadHierarchy(
            f"The DOT text has {len(text)} characters, and at most {LARGEST} are read. Write the "
            "tree as JSON."
        )
    try:
        graphs = list(GraphParser.parser.parse_string(text, parse_all=True))
    except ParseException as error:
        raise BadHierarchy(
            f"Line {error.lineno} is no DOT: {error.line.strip()!r} ({error.msg}). Write "
            '`digraph {`, then edges such as "cats" -> "siamese"; with names in quotes, then `}`.'
        ) from error
    except RecursionError as error:
        raise BadHierarchy("The DOT text is nested too deeply. Write edges alone.") from error
    if len(graphs) != 1 or graphs[0].get_type() != "digraph" or graphs[0].get_subgraphs():
        raise BadHierarchy("The DOT text must hold one `digraph` and no subgraph.")
    statements = _Statements()
    for node in graphs[0].get_nodes():
        if (label := node.get_attributes().get("label")) is not None:
            statements.labels[_plain(node.get_name())] = _plain(label)
    for edge in sorted(graphs[0].get_edges(), key=lambda edge: edge.get_sequence()):
        ends = (edge.get_source(), edge.get_destination())
        if not all(isinstance(end, str) for end in ends):
            raise BadHierarchy(
                "An edge of the DOT text leads to a subgraph. Write one edge a node."
            )
        parent, child = map(_plain, ends)
        order = _plain(edge.get_attributes().get("order", str(len(statements.orders))))
        if not order.isdecimal():
            raise BadHierarchy(
                f"The edge from '{parent}' to '{child}' has order={order}, which is no whole "
                "number from 0 up."
            )
        statements.orders[parent, child] = int(order)
    return statements


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _plain(token: str) -> str:
    """Returns an identifier without its quotes; pydot keeps them, and joins a port with a colon."""
    if len(token) > 1 and token[0] == token[-1] == '"':
        return re.sub(r"\\(.)", r"\1", token[1:-1])
    if ":" in token:
        raise BadHierarchy(
            f"The node {token} has a port, and ports are not read. Put a name with a colon in quotes."
        )
    return token
