"""
Reads and writes the files of data/clustering/SEED: JSON and DOT of each grouping.

`left_out.json` maps each grouping that these predictions do not allow to the reason.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import networkx as nx

from personae import files
from train.documents import GroupingDocument
from train.errors import BadHierarchy
from train.tree import dot, hierarchy

LEFT_OUT = "left_out"


def write(
    folder: Path, groupings: Mapping[str, Mapping[str, Any]], left_out: Mapping[str, str]
) -> None:
    """Writes each grouping and `left_out.json`; removes the files of all other groupings."""
    files.make_folder(folder)
    for path in [*folder.glob("*.json"), *folder.glob("*.dot")]:
        if path.stem not in groupings:
            path.unlink()
    for name, figures in groupings.items():
        files.write_json(folder / f"{name}.json", {"grouping": name, **figures})
        document = read(folder, name)
        files.write_text(folder / f"{name}.dot", dot.to_dot(tree(document), document.labels))
    files.write_json(folder / f"{LEFT_OUT}.json", left_out)


def read(folder: Path, name: str) -> GroupingDocument:
    """
    Returns the document of one grouping.

    Raises:
        BadHierarchy: The stage left this grouping out; the message gives the reason.
        MissingInput: The stage did not run, or has no such grouping.
        BadDocument: The file has another shape.
    """
    path = folder / f"{name}.json"
    reasons = folder / f"{LEFT_OUT}.json"
    if not path.exists() and reasons.exists():
        reason = files.read_json(reasons, stage="clustering").get(name)
        if reason is not None:
            raise BadHierarchy(
                f"Grouping '{name}' was left out of {folder}: {reason} Or choose another grouping for "
                "the run."
            )
    return GroupingDocument.read(path)


def nothing_to_group(folder: Path, name: str) -> str | None:
    """Returns why the stage left the grouping `name` out; None where it did not."""
    path = folder / f"{LEFT_OUT}.json"
    reasons = files.read_json(path, stage="clustering") if path.exists() else {}
    reason = reasons.get(name)
    return None if reason is None else str(reason)


def tree(document: GroupingDocument) -> nx.DiGraph:
    """
    Returns the hierarchy of a document.

    It is built from `cover` if there is one, else from `tree`, else from `clusters` (two levels).
    """
    if document.cover:
        return hierarchy.from_cover(document.cover, len(document.labels))
    if document.tree:
        return hierarchy.from_nested(document.tree, len(document.labels))
    return hierarchy.from_clusters(document.clusters, len(document.labels))
