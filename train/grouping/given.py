"""
Groupings that are told, not found: families of the data set, and a user's own JSON or DOT file.

Out comes a tree as nested lists of leaves, whose first level is a partition.
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
    Returns the labels of each family as clusters; one without a family stands alone.

    Raises:
        BadHierarchy: That groups nothing: fewer than two clusters, or as many as labels.
    """
    found: dict[str, list[int]] = {}
    for leaf, name in enumerate(names):
        family = family_of.get(name)
        found.setdefault(f"label {name}" if family is None else f"family {family}", []).append(leaf)
    return must_group(
        sorted(found.values()),
        remedy="The data set tells no families (copyrights) that group its labels: name a file of "
        "yours in clustering.given, or take another grouping.",
    )


def read(path: Path, names: Sequence[str]) -> Nested:
    """
    Returns the tree of a user's file, groups before labels at every level.

    A `.dot` or `.gv` file is read by `dot.from_dot`. Any other is JSON: lists of label names
    and of further lists, to any depth; objects serve as lists whose groups have names.

    Raises:
        MissingInput: The file is absent or unreadable.
        BadHierarchy: It names no tree over exactly these labels, or one that groups nothing.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MissingInput(
            f"clustering.given names {path}, which cannot be read ({error}). Write it, or leave "
            "clustering.given empty for the families that the data set tells."
        ) from error
    try:
        if path.suffix in (".dot", ".gv"):
            graph = dot.from_dot(text, names)
        else:
            graph = hierarchy.from_nested(_group(_json(text), names), len(names))
        tree: Nested = [
            [one] if isinstance(one, int) else one for one in hierarchy.to_nested(graph)
        ]  # every child of the root is a cluster, also a single label
        must_group(hierarchy.clusters(graph), remedy="Its root must have groups below it.")
    except BadHierarchy as error:
        raise BadHierarchy(f"{path} (clustering.given): {error}") from error
    return tree


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadHierarchy(f"It is no JSON ({error}). Write lists of label names.") from error


def _group(told: Any, names: Sequence[str]) -> Any:
    if isinstance(told, Mapping):
        told = list(told.values())
    if not isinstance(told, list):
        raise BadHierarchy(
            f"{told!r} is neither a label's name nor a list of such. Write names in quotes."
        )
    below = [
        hierarchy.leaf_of(one, names) if isinstance(one, str) else _group(one, names)
        for one in told
    ]
    alone = len(below) == 1 and isinstance(below[0], list)  # a group that only holds a group
    return below[0] if alone else below
