"""
Stage `persona`: makes the persona of each post its class label, and balances the labels.

Reads the posts that `duplicates` kept and their personae from `decide`; writes labels, classes and
decisions. The hash of the post id decides which samples of a label are taken: when more posts are
listed, the samples taken before are taken again as far as their number allows.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation import rows
from curation.errors import TooFewSamples
from curation.params.persona import Params
from personae import decisions, tables
from personae.decisions import DECISIONS
from personae.errors import MissingInput

log = logging.getLogger(__name__)

Ids = npt.NDArray[np.int64]

_PIECE = 1 << 18  # decisions that are written at once

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
    decided = _decisions(order, taken, params.min_samples, most)
    tables.write_rows(out / "decisions.parquet", DECISIONS, decided)
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
    kept = rows.kept_by(data_dir, "duplicates")
    path = data_dir / "decide" / "kept.parquet"
    texts = ["persona", "base", "copyright"]
    named = tables.read(path, ["post_id", *texts], stage="decide", encoded=texts)
    is_kept = rows.are_among(named["post_id"].to_numpy(), kept)
    named = rows.ordered(named.filter(pa.array(is_kept)))
    absent = np.setdiff1d(kept, named["post_id"].to_numpy(), assume_unique=True)
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
    parts = np.split(by_label, ends) if labels else []
    # The dictionary also has the labels of posts that are not kept.
    return {label: ids for label, ids in zip(labels, parts, strict=True) if len(ids)}


def _decisions(
    order: Mapping[str, Ids], taken: Mapping[str, Ids], min_samples: int, most: int | None
) -> Iterator[pa.Table]:
    """Yields one row per post, in pieces; `over_cap` compares its rank from 1 with the number taken."""
    post_ids = np.concatenate(list(order.values()))
    reason, measured, threshold = (np.zeros(len(post_ids), np.int64) for _ in range(3))
    start = 0
    for label, posts in order.items():
        span = slice(start, start := start + len(posts))
        if label not in taken:
            reason[span], measured[span], threshold[span] = 1, len(posts), min_samples
            continue
        rank = np.arange(1, 1 + len(posts))
        reason[span] = np.where(rank > len(taken[label]), 2, 0)
        measured[span], threshold[span] = rank, most or 0
    by_id = np.argsort(post_ids)
    reasons = pa.array([None, "label_too_small", "over_cap"], pa.string())
    for begin in range(0, len(by_id), _PIECE):
        piece = by_id[begin : begin + _PIECE]
        is_kept = reason[piece] == 0
        yield decisions.table(
            "persona",
            post_ids[piece],
            reasons.take(pa.array(reason[piece])),
            measured=pa.array(measured[piece].astype(np.float64), mask=is_kept),
            threshold=pa.array(threshold[piece].astype(np.float64), mask=is_kept),
        )


def _classes(
    personae: pa.Table, available: Mapping[str, int], taken: Mapping[str, Ids]
) -> pa.Table:
    post_ids = personae["post_id"].to_numpy()
    classes = []
    for leaf, (label, posts) in enumerate(taken.items()):
        of_label = personae.take(pa.array(np.searchsorted(post_ids, posts)))
        copyrights = Counter(of_label["copyright"].to_pylist())
        classes.append(
            {
                "label": label,
                "leaf": leaf,
                "base": of_label["base"][0].as_py(),
                "copyright": max(copyrights, key=lambda name: (copyrights[name], name or "")),
                "available": available[label],
                "samples": len(posts),
            }
        )
    return pa.Table.from_pylist(classes, schema=CLASSES)


def _span(sizes: Mapping[int, int]) -> str:
    low, high = min(sizes), max(sizes)
    return f"{low} each" if low == high else f"{low} to {high}"
