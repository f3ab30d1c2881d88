"""
Stage `persona`: makes the persona of each post its class label, and balances the labels.

Reads the posts that `duplicates` kept and their personae from `decide`; writes labels, classes and
decisions. The hash of the post id decides which samples of a label are taken: when more posts are
listed, the samples taken before are taken again as far as their number allows.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import TooFewSamples
from curation.params.persona import Params
from personae import decisions, tables
from personae.errors import MissingInput

log = logging.getLogger(__name__)

Ids = npt.NDArray[np.int64]

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
    post_ids = personae["post_id"].to_numpy()
    posts = _posts_of_labels(personae)
    available = {label: len(ids) for label, ids in posts.items()}
    most = allowance(available, params)
    order = {label: np.array(ranked(ids.tolist()), np.int64) for label, ids in posts.items()}
    leaves = sorted(
        (label for label in posts if available[label] >= params.min_samples),
        key=lambda label: label.encode(),
    )
    taken = {label: order[label][:most] for label in leaves}
    out = data_dir / "persona"
    tables.write(out / "decisions.parquet", _decisions(order, taken, params.min_samples, most))
    tables.write(out / "classes.parquet", _classes(personae, available, taken))
    samples = np.concatenate([taken[label] for label in leaves])
    leaf = np.repeat(np.arange(len(leaves), dtype=np.int32), [len(taken[n]) for n in leaves])
    by_id = np.argsort(samples)
    columns = {
        "post_id": samples[by_id],
        "label": pa.array(leaves, pa.string()).take(pa.array(leaf[by_id])),
        "leaf": leaf[by_id],
    }
    metadata = {"personae.params": params.model_dump_json()}
    labels = pa.table(columns, schema=LABELS)
    tables.write(out / "labels.parquet", labels.replace_schema_metadata(metadata))
    small = sum(available[label] for label in posts if label not in taken)
    log.info(
        "persona: %d of %d posts kept in %d labels of %s; refused: label_too_small %d, over_cap %d",
        len(samples),
        len(post_ids),
        len(leaves),
        _span(Counter(len(ids) for ids in taken.values())),
        small,
        len(post_ids) - small - len(samples),
    )


def _personae(data_dir: Path) -> pa.Table:
    """Returns the persona of every post that `duplicates` kept, by post id."""
    path = data_dir / "duplicates" / "decisions.parquet"
    decided = tables.read(path, ["post_id", "kept"], stage="duplicates")
    kept = np.unique(decided.filter(decided["kept"])["post_id"].to_numpy())
    path = data_dir / "decide" / "kept.parquet"
    columns = ["post_id", "persona", "base", "copyright"]
    named = tables.read(path, columns, stage="decide")
    named = named.filter(pc.is_in(named["post_id"], pa.array(kept))).sort_by("post_id")
    absent = np.setdiff1d(kept, named["post_id"].to_numpy())
    if len(absent):
        raise MissingInput(
            f"{path} lacks post {absent[0]}, which stage 'duplicates' kept: the tables come from "
            "different runs. Run stage 'decide' and those after it again."
        )
    return named.combine_chunks()


def _posts_of_labels(personae: pa.Table) -> dict[str, Ids]:
    """Returns the ids of the posts of each label, ascending."""
    encoded = pc.dictionary_encode(personae["persona"]).combine_chunks()
    codes = encoded.indices.to_numpy()
    by_label = personae["post_id"].to_numpy()[np.argsort(codes, kind="stable")]
    labels = encoded.dictionary.to_pylist()
    ends = np.cumsum(np.bincount(codes, minlength=len(labels)))[:-1]
    return dict(zip(labels, np.split(by_label, ends), strict=True)) if labels else {}


def _decisions(
    order: Mapping[str, Ids], taken: Mapping[str, Ids], min_samples: int, most: int | None
) -> pa.Table:
    """Returns one row per post; `over_cap` compares its rank, from 1, with the number taken."""
    post_ids = np.concatenate(list(order.values()))
    reason, measured, threshold = (np.zeros(len(post_ids), np.int64) for _ in range(3))
    start = 0
    for label, posts in order.items():
        rows = slice(start, start := start + len(posts))
        if label not in taken:
            reason[rows], measured[rows], threshold[rows] = 1, len(posts), min_samples
            continue
        rank = np.arange(1, 1 + len(posts))
        reason[rows] = np.where(rank > len(taken[label]), 2, 0)
        measured[rows], threshold[rows] = rank, most or 0
    by_id = np.argsort(post_ids)
    reason, is_kept = reason[by_id], reason[by_id] == 0
    return decisions.table(
        "persona",
        post_ids[by_id],
        pa.array([None, "label_too_small", "over_cap"], pa.string()).take(pa.array(reason)),
        measured=pa.array(measured[by_id].astype(np.float64), mask=is_kept),
        threshold=pa.array(threshold[by_id].astype(np.float64), mask=is_kept),
    )


def _classes(
    personae: pa.Table, available: Mapping[str, int], taken: Mapping[str, Ids]
) -> pa.Table:
    post_ids = personae["post_id"].to_numpy()
    rows = []
    for leaf, (label, posts) in enumerate(taken.items()):
        of_label = personae.take(pa.array(np.searchsorted(post_ids, posts)))
        copyrights = Counter(of_label["copyright"].to_pylist())
        rows.append(
            {
                "label": label,
                "leaf": leaf,
                "base": of_label["base"][0].as_py(),
                "copyright": max(copyrights, key=lambda name: (copyrights[name], name or "")),
                "available": available[label],
                "samples": len(posts),
            }
        )
    return pa.Table.from_pylist(rows, schema=CLASSES)


def _span(sizes: Mapping[int, int]) -> str:
    low, high = min(sizes), max(sizes)
    return f"{low} each" if low == high else f"{low} to {high}"
