"""
Groupings that are given instead of predicted: families of the data set, or a user's JSON or DOT file.

The result is a tree as nested lists of leaves, whose first level is a partition.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from personae.errors import MissingInput
from train.errors import BadHierarchy
from train.grouping.partition import Partition, must_group
from train.tree import dot, hierarchy
from train.tree.hierarchy import Nested


def families(names: Sequence[str], family_of: Mapping[str, str | None]) -> Partition:
    """
    Returns one cluster for each family; a label without a family is a cluster of its own.

    Args:
        names: Names of the labels, in leaf order.
        family_of: Family of each label, by name; None or absent for none.

    Raises:
        BadHierarchy: There are fewer than two clusters, or as many clusters as labels.
    """
    clusters: dict[str, list[int]] = {}
    for leaf, name in enumerate(names):
        family = family_of.get(name)
        key = f"label {name}" if family is None else f"family {family}"
        clusters.setdefault(key, []).append(leaf)
    return must_group(
        sorted(clusters.values()),
        remedy="The data set has no families (copyrights) that group its labels: name a file of "
        "yours in clustering.given, or take another grouping.",
    )


def read(path: Path, names: Sequence[str]) -> Nested:
    """
    Returns the tree of a user's file; groups come before labels at every level.

    A `.dot` or `.gv` file is read by `dot.from_dot`. Any other file is JSON: lists of label names and
    of further lists, to any depth. An object counts as the list of its values.

    Args:
        path: The file.
        names: Names of the labels, in leaf order.

    Raises:
        MissingInput: The file is absent or unreadable.
        BadHierarchy: The file is no tree over exactly these labels, or it does not group them.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MissingInput(
            f"clustering.given names {path}, which cannot be read ({error}). Write it, or leave "
            "clustering.given empty to use the families of the data set."
        ) from error
    try:
        if path.suffix in (".dot", ".gv"):
            graph = dot.from_dot(text, names)
        else:
            graph = hierarchy.from_nested(_group(_json(text), names), len(names))
        tree: Nested = [
            [child] if isinstance(child, int) else child for child in hierarchy.to_nested(graph)
        ]  # every child of the root is a cluster, also a single label
        must_group(hierarchy.clusters(graph), remedy="Its root must have groups below it.")
    except BadHierarchy as error:
        raise BadHierarchy(f"{path} (clustering.given): {error}") from error
    return tree


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadHierarchy(f"The file is no JSON ({error}). Write lists of label names.") from error


def _group(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, Mapping):
        value = list(value.values())
    if not isinstance(value, list):
        raise BadHierarchy(
            f"{value!r} is neither a label's name nor a list of names. Write names in quotes."
        )
    children = [
        hierarchy.leaf_of(child, names) if isinstance(child, str) else _group(child, names)
        for child in value
    ]
    # A group whose only child is a group adds no level.
    is_chain = len(children) == 1 and isinstance(children[0], list)
    return children[0] if is_chain else children
