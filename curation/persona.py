"""
Stage `persona`: makes the persona of each post its class label, and balances the labels.

Reads the posts that `duplicates` kept and their personae from `decide`; writes labels, classes and
decisions. The hash of the post id decides which samples of a label are taken: when more posts are
listed, the samples taken before are taken again as far as their number allows.
"""

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.errors import TooFewSamples
from curation.params.persona import Params
from personae import tables
from personae.decisions import DECISIONS
from personae.errors import MissingInput

log = logging.getLogger(__name__)

LABELS = pa.schema({"post_id": pa.int64(), "label": pa.string(), "leaf": pa.int32()})
CLASSES = pa.schema(
    {
        "label": pa.string(),
        "leaf": pa.int32(),
        "base": pa.string(),
        "copyright": pa.string(),
        "available": pa.int64(),
        "samples": pa.int64(),
    }
)


def allowance(available: Mapping[str, int], params: Params) -> int | None:
    """
    Returns the largest number of samples of a label; None means no limit.

    With `equal` it is the size of the smallest label that has at least `min_samples`.

    Raises:
        TooFewSamples: No label reaches `min_samples`.
    """
    sizes = [count for count in available.values() if count >= params.min_samples]
    if not sizes:
        label = max(available, key=lambda name: (available[name], name), default=None)
        largest = f"the largest, '{label}', has {available[label]}" if label else "there is none"
        raise TooFewSamples(
            f"No label has {params.min_samples} samples after filters and duplicates; {largest}. "
            "Lower `persona.min_samples`, or list and download more posts."
        )
    if params.balance != "equal":
        return params.cap
    return min(sizes) if params.cap is None else min(params.cap, *sizes)


def ranked(posts: Sequence[int]) -> list[int]:
    """Returns the posts in the order in which they are taken: by sha256 of the id, then by id."""
    return sorted(
        posts,
        key=lambda post_id: (hashlib.sha256(f"persona:{post_id}".encode()).digest(), post_id),
    )


def run(params: Params, *, data_dir: Path, work_dir: Path) -> None:  # noqa: ARG001  # every stage has this signature
    """
    Labels and balances the posts that `duplicates` kept.

    Leaves are numbered in byte order of their labels.

    Raises:
        MissingInput: A post has no persona: the tables come from different runs.
        TooFewSamples: No label reaches `min_samples`.
    """
    personae = _personae(data_dir)
    posts: dict[str, list[int]] = defaultdict(list)
    for post_id, row in personae.items():
        posts[row["persona"]].append(post_id)
    available = {label: len(ids) for label, ids in posts.items()}
    most = allowance(available, params)
    order = {label: ranked(ids) for label, ids in posts.items()}
    leaves = sorted(
        (label for label in posts if available[label] >= params.min_samples),
        key=lambda label: label.encode(),
    )
    taken = {label: order[label][:most] for label in leaves}
    out = data_dir / "persona"
    tables.write(out / "decisions.parquet", _decisions(order, taken, params.min_samples, most))
    tables.write(out / "classes.parquet", _classes(personae, available, taken))
    rows: list[dict[str, Any]] = [
        {"post_id": post_id, "label": label, "leaf": leaf}
        for leaf, label in enumerate(leaves)
        for post_id in taken[label]
    ]
    labels = pa.Table.from_pylist(sorted(rows, key=lambda row: row["post_id"]), schema=LABELS)
    metadata = {"personae.params": params.model_dump_json()}
    tables.write(out / "labels.parquet", labels.replace_schema_metadata(metadata))
    small = sum(available[label] for label in posts if label not in taken)
    log.info(
        "persona: %d of %d posts kept in %d labels of %s; refused: label_too_small %d, over_cap %d",
        len(rows),
        len(personae),
        len(leaves),
        _span(Counter(len(ids) for ids in taken.values())),
        small,
        len(personae) - small - len(rows),
    )


def _personae(data_dir: Path) -> dict[int, dict[str, Any]]:
    """Returns the persona of every post that `duplicates` kept, by post id."""
    path = data_dir / "duplicates" / "decisions.parquet"
    decisions = tables.read(path, ["post_id", "kept"], stage="duplicates").to_pylist()
    kept = sorted(row["post_id"] for row in decisions if row["kept"])
    path = data_dir / "decide" / "kept.parquet"
    columns = ["post_id", "persona", "base", "copyright"]
    named = {row["post_id"]: row for row in tables.read(path, columns, stage="decide").to_pylist()}
    for post_id in kept:
        if post_id not in named:
            raise MissingInput(
                f"{path} lacks post {post_id}, which stage 'duplicates' kept: the tables come from "
                "different runs. Run stage 'decide' and those after it again."
            )
    return {post_id: named[post_id] for post_id in kept}


def _decisions(
    order: Mapping[str, Sequence[int]],
    taken: Mapping[str, Sequence[int]],
    min_samples: int,
    most: int | None,
) -> pa.Table:
    """Returns one row per post; `over_cap` compares its rank, from 1, with the number taken."""
    rows: list[dict[str, Any]] = []
    for label, posts in order.items():
        for rank, post_id in enumerate(posts, start=1):
            row = {"post_id": post_id, "stage": "persona", "kept": False}
            if label not in taken:
                row |= {"reason": "label_too_small"}
                row |= {"measured": len(posts), "threshold": min_samples}
            elif rank > len(taken[label]):
                row |= {"reason": "over_cap", "measured": rank, "threshold": most}
            else:
                row["kept"] = True
            rows.append(row)
    rows.sort(key=lambda row: row["post_id"])
    return pa.Table.from_pylist(rows, schema=DECISIONS)


def _classes(
    personae: Mapping[int, Mapping[str, Any]],
    available: Mapping[str, int],
    taken: Mapping[str, Sequence[int]],
) -> pa.Table:
    rows = []
    for leaf, (label, posts) in enumerate(taken.items()):
        copyrights = Counter(personae[post_id]["copyright"] for post_id in posts)
        rows.append(
            {
                "label": label,
                "leaf": leaf,
                "base": personae[posts[0]]["base"],
                "copyright": max(copyrights, key=lambda name: (copyrights[name], name or "")),
                "available": available[label],
                "samples": len(posts),
            }
        )
    return pa.Table.from_pylist(rows, schema=CLASSES)


def _span(sizes: Mapping[int, int]) -> str:
    low, high = min(sizes), max(sizes)
    return f"{low} each" if low == high else f"{low} to {high}"
