"""
The files of data/clustering/SEED: one JSON a grouping, and why others are absent.

`left_out.json` maps each grouping that is impossible on this confusion to the reason.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import networkx as nx

from train import documents
from train.components import hierarchy
from train.errors import BadHierarchy

LEFT_OUT = "left_out"
_WRITER = "python -m train clustering"


def write(
    folder: Path, groupings: Mapping[str, Mapping[str, Any]], left_out: Mapping[str, str]
) -> None:
    """Writes each grouping and the reasons for those left out; removes files of earlier ones."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {name: {"grouping": name, **found} for name, found in groupings.items()}
    for path in folder.glob("*.json"):
        if path.stem not in written:
            path.unlink()
    for name, document in {**written, LEFT_OUT: left_out}.items():
        _write(folder / f"{name}.json", document)


def read(folder: Path, name: str) -> dict[str, Any]:
    """
    Returns the document of one grouping.

    Raises:
        BadHierarchy: The stage left this grouping out; the message says why.
        MissingInput: The stage did not run, or knows no such grouping.
    """
    path = folder / f"{name}.json"
    reasons = folder / f"{LEFT_OUT}.json"
    if not path.exists() and reasons.exists():
        reason = documents.read(reasons, written_by=_WRITER).get(name)
        if reason is not None:
            raise BadHierarchy(
                f"Grouping '{name}' was left out of {folder}: {reason} Or let the run name another "
                "grouping."
            )
    return documents.read(path, written_by=_WRITER)


def tree(document: Mapping[str, Any]) -> nx.DiGraph:
    """Returns the hierarchy of a document: its `tree`, or two levels where it tells only clusters."""
    nested = document.get("tree", document["clusters"])
    return hierarchy.from_nested(nested, len(document["labels"]))


def _write(path: Path, document: Mapping[str, Any]) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(document, file, indent=1, sort_keys=True)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
