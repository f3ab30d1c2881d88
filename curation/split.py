"""
Stage `split`: draws train, validation and test by duplicate group.

Reads the labels, the duplicate groups and their links, the measures and the tags. Writes
split.parquet, decisions.parquet and certificate.json, which names the closest images of different
splits.
"""

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation import certificate, given
from curation.assignment import Assignment, assign, assign_folds, drawn
from curation.documents import SPLITS, CertificateDocument, LikePair
from curation.edges import SIDE, stacked
from curation.errors import LeakingSplit, TooFewSamples
from curation.groups import groups_of
from curation.image import Pixels, thumbnail
from curation.like import MOST, like_pairs
from curation.params.split import Params
from curation.spans import SpanReader
from personae import tables
from personae.decisions import DECISIONS
from personae.errors import BadParams, MissingInput

log = logging.getLogger(__name__)

SCHEMA = pa.schema(
    {
        "post_id": pa.int64(),
        "label": pa.string(),
        "leaf": pa.int32(),
        "group_id": pa.int64(),
        "split": pa.string(),
        "white_background": pa.bool_(),
    }
)


def run(params: Params, *, data_dir: Path, work_dir: Path) -> None:  # noqa: ARG001  # every stage has this signature
    """
    Writes `split/split.parquet`, `split/decisions.parquet` and `split/certificate.json`.

    Raises:
        TooFewSamples: Mode hash: a label has no image in one split, or its share in a split differs
            from the parameter by more than `tolerance`. Mode given: too few images of a label are
            available to take `val_per_label` for validation without dividing a duplicate group.
        LeakingSplit: Two images of different splits are duplicates by their hashes or edges.
        TamperedData: A normalised image does not have its recorded sha256.
        MissingInput: A table is absent, or the tables come from different runs.
    """
    labels = tables.read(
        data_dir / "persona" / "labels.parquet", ["post_id", "label", "leaf"], stage="persona"
    ).sort_by("post_id")
    labelled = labels.to_pylist()
    group_of = _by_post(_groups(data_dir), "group_id", stage="duplicates")
    pairs = [*_linked_pairs(data_dir), *_given_pairs(data_dir, group_of)]
    if params.mode == "given":
        label_of = {row["post_id"]: row["label"] for row in labelled}
        assignments = _given(params, data_dir, _joined(group_of, pairs), label_of)
    else:
        assignments = assign(group_of, pairs, seed=params.seed, train=params.train, val=params.val)
    for row in labelled:
        if row["post_id"] not in assignments:
            raise MissingInput(
                f"Post {row['post_id']} has a label but no duplicate group: the two tables come "
                "from different runs. Run stages 'duplicates' and 'persona' again."
            )
    kept = [row for row in labelled if len(assignments[row["post_id"]].splits) == 1]
    white = _white_background(params, data_dir, {row["post_id"]: row["label"] for row in kept})
    for row in kept:
        assignment = assignments[row["post_id"]]
        row |= {
            "group_id": assignment.group_id,
            "split": assignment.splits[0],
            "white_background": white[row["post_id"]],
        }
    schema = SCHEMA
    if params.folds is not None:
        schema = SCHEMA.append(pa.field("fold", pa.int32()))
        folds = assign_folds(assignments, pairs, seed=params.seed, folds=params.folds)
        for row in kept:
            row["fold"] = folds.get(row["post_id"])
        _check_folds(kept, params.folds)
    certified = _certificate(params, data_dir, kept, _shares(params, kept))
    out = data_dir / "split"
    # Left out where it is unset, so that a split keeps the bytes that older versions gave it.
    unset = {"folds"} if params.folds is None else set()
    metadata = {"personae.params": params.model_dump_json(exclude=unset)}
    tables.write(
        out / "split.parquet",
        pa.Table.from_pylist(kept, schema=schema).replace_schema_metadata(metadata),
    )
    tables.write(out / "decisions.parquet", _decisions(labelled, assignments))
    certified.write(out / "certificate.json")
    counts = Counter(row["split"] for row in kept)
    log.info(
        "split: %d of %d posts kept (%s), bridges_splits %d, closest pair %s",
        len(kept),
        len(labelled),
        ", ".join(f"{name} {counts[name]}" for name in SPLITS),
        len(labelled) - len(kept),
        certified.closest and certified.closest.model_dump(),
    )


def _linked_pairs(data_dir: Path) -> list[tuple[int, int]]:
    links = tables.read(
        data_dir / "duplicates" / "links.parquet", ["post_a", "post_b"], stage="duplicates"
    )
    ends = (links[name].to_numpy().tolist() for name in ("post_a", "post_b"))
    return list(zip(*ends, strict=True))


def _given(
    params: Params, data_dir: Path, group_of: Mapping[int, int], label_of: Mapping[int, str]
) -> dict[int, Assignment]:
    """Takes the splits of the source; if the source has no val, part of `val_from` becomes val."""
    of_source = _by_post(data_dir / "listing" / "posts.parquet", "given_split", stage="listing")
    names = {of_source.get(post) for post in group_of}
    if not names <= set(SPLITS):
        post = min(post for post in group_of if of_source.get(post) not in SPLITS)
        raise MissingInput(
            f"Post {post} has the given split {of_source.get(post)!r}, not train, val or test: "
            "`mode: given` needs a split for every post. Correct the source, or use `mode: hash`."
        )
    if "val" in names and params.val_per_label is not None:
        raise BadParams(
            "`split.val_per_label` takes a validation split from another split, but the source has a "
            "validation split of its own. Leave the parameter out to use it."
        )
    giving = [post for post in group_of if of_source[post] == params.val_from]
    chosen: set[int] = set()
    if params.val_per_label is not None:
        chosen = given.validation(
            {post: group_of[post] for post in giving if post in label_of},
            label_of,
            per_label=params.val_per_label,
            seed=params.seed,
        )
    elif "val" not in names:
        keep = params.train / (params.train + params.val)
        drawn_of = {
            group: drawn(group, seed=params.seed, train=keep, val=1 - keep)
            for group in set(group_of.values())
        }
        chosen = {post for post in giving if drawn_of[group_of[post]] == "val"}
    return {
        post: Assignment(group, ("val" if post in chosen else str(of_source[post]),))
        for post, group in group_of.items()
    }


def _given_pairs(data_dir: Path, posts: Collection[int]) -> list[tuple[int, int]]:
    """Returns pairs that join the posts of each group of the source to its smallest id."""
    given_group = _by_post(data_dir / "listing" / "posts.parquet", "given_group", stage="listing")
    first: dict[str, int] = {}
    return [
        (first.setdefault(given_group[post], post), post)
        for post in sorted(posts)
        if given_group.get(post) is not None
    ]


def _joined(group_of: Mapping[int, int], pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Returns the groups after `pairs` of posts have joined some; a group is its smallest id."""
    linked = [(group_of[post_a], group_of[post_b]) for post_a, post_b in pairs]
    smallest = groups_of(group_of.values(), linked)
    return {post: smallest[group] for post, group in group_of.items()}


def _by_post(path: Path, column: str, *, stage: str) -> dict[int, Any]:
    table = tables.read(path, ["post_id", column], stage=stage)
    return dict(zip(table["post_id"].to_numpy().tolist(), table[column].to_pylist(), strict=True))


def _groups(data_dir: Path) -> Path:
    return data_dir / "duplicates" / "groups.parquet"


def _white_background(
    params: Params, data_dir: Path, label_of: Mapping[int, str]
) -> dict[int, bool]:
    """
    Returns whether each post is on white: by its border, and by its tags if it has tags.

    Tags that only repeat the label say nothing about the background.
    """
    border = _by_post(data_dir / "measure" / "measures.parquet", "border_white", stage="measure")
    tagged = _by_post(data_dir / "decide" / "kept.parquet", "white_background_tag", stage="decide")
    kinds = [f"tags_{kind}" for kind in ("general", "character", "copyright", "artist", "meta")]
    posts = tables.read(
        data_dir / "listing" / "posts.parquet", ["post_id", "given_label", *kinds], stage="listing"
    )
    posts = posts.filter(pc.is_in(posts["post_id"], pa.array(list(label_of), pa.int64())))
    has_tags = {
        row["post_id"]: row["given_label"] is None
        and any(tag != label_of[row["post_id"]] for kind in kinds for tag in row[kind])
        for row in posts.to_pylist()
    }
    return {
        post: (border.get(post) or 0.0) >= params.white_border
        and (tagged.get(post, False) or not has_tags.get(post, False))
        for post in label_of
    }


def _shares(params: Params, kept: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """
    Returns the share of each split, 0..1, for each label.

    Raises:
        TooFewSamples: A share is outside the tolerance, or a split has no sample of a label.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in kept:
        counts[row["label"]][row["split"]] += 1
    expected = {name: getattr(params, name) for name in SPLITS}
    shares = {}
    for label in sorted(counts):
        total = counts[label].total()
        shares[label] = {name: round(counts[label][name] / total, 6) for name in SPLITS}
        name = max(SPLITS, key=lambda name: (abs(shares[label][name] - expected[name]), name))
        empty = [name for name in SPLITS if not counts[label][name]]
        far = abs(shares[label][name] - expected[name]) > params.tolerance + 1e-9
        if params.mode == "hash" and (far or empty):
            name = empty[0] if empty else name
            remedy = "Choose" if empty else "Raise `split.tolerance`, choose"
            raise TooFewSamples(
                f"Label '{label}' has {counts[label][name]} of its {total} samples in {name}, a "
                f"share of {shares[label][name]:.3f} where {expected[name]:g} ± "
                f"{params.tolerance:g} and at least one sample are required: splits are drawn by "
                f"hash, and the shares of few samples vary widely. {remedy} another "
                "`split.seed`, or raise `persona.min_samples` to leave small labels out."
            )
    return shares


def _check_folds(kept: Sequence[Mapping[str, Any]], folds: int) -> None:
    """
    Makes sure that every label has a sample in every fold.

    Raises:
        TooFewSamples: A label has none.
    """
    folds_of: dict[str, set[int | None]] = defaultdict(set)
    for row in kept:
        folds_of[row["label"]].add(row["fold"])
    for label in sorted(folds_of):
        empty = sorted(set(range(folds)) - folds_of[label])
        if empty:
            raise TooFewSamples(
                f"Label '{label}' has no sample in fold {empty[0]} of {folds}: folds are drawn by hash "
                "for each duplicate group of train and val. Lower `split.folds`, choose another "
                "`split.seed`, or raise `persona.min_samples` to leave small labels out."
            )


def _certificate(
    params: Params,
    data_dir: Path,
    kept: Sequence[Mapping[str, Any]],
    shares: dict[str, dict[str, float]],
) -> CertificateDocument:
    """
    Returns the certificate of the split; see `curation.certificate`.

    Raises:
        LeakingSplit: The closest pair is a duplicate by its hashes or edges, and the split is not
            given.
    """
    hash_of = _by_post(data_dir / "measure" / "measures.parquet", "phash", stage="measure")
    apart = tables.read(
        data_dir / "duplicates" / "apart.parquet", ["post_a", "post_b"], stage="duplicates"
    )
    limit = _duplicate_distance(data_dir)
    certified = certificate.certify(
        kept,
        hashes={post: value for post, value in hash_of.items() if value is not None},
        apart=zip(*(apart[name].to_numpy().tolist() for name in apart.column_names), strict=True),
        limit=limit,
        like=_like(params, data_dir, kept),
        least_difference=params.least_difference,
        mode=params.mode,
        seed=params.seed,
        shares=shares,
    )
    closest = certified.closest
    if closest is not None and not closest.above and params.mode == "hash":
        raise LeakingSplit(
            f"Posts {closest.post_a} ({closest.split_a}) and {closest.post_b} "
            f"({closest.split_b}) differ in {closest.distance} of 256 bits, which is not more than "
            f"the {limit} of duplicates, but no link joins them and their pixels were not found to "
            "differ. Run stage 'duplicates' again. If the tables are of the same run, report this "
            "as a defect."
        )
    nearest = certified.like[0] if certified.like else None
    if nearest and nearest.difference <= params.least_difference and params.mode == "hash":
        raise LeakingSplit(
            f"Posts {nearest.post_a} ({nearest.split_a}) and {nearest.post_b} ({nearest.split_b}) of "
            f"label '{nearest.label}' have edges that differ by {nearest.difference:.3f}"
            f"{', one of them mirrored' if nearest.mirrored else ''}, where more than "
            f"{params.least_difference:g} is required (`split.least_difference`): they look like one "
            "image in two splits, but no link joins them. Look at both. If they are one image, lower "
            "`duplicates.artwork_inliers` or raise `duplicates.max_difference`. If they are not, "
            "lower `split.least_difference`."
        )
    return certified


def _like(params: Params, data_dir: Path, kept: Sequence[Mapping[str, Any]]) -> list[LikePair]:
    """Returns the pairs of different splits whose edges are most similar, closest first."""
    if not params.least_difference:
        return []
    path = data_dir / "measure" / "measures.parquet"
    columns = ["post_id", "width", "height", "image_tar", "offset", "image_bytes", "image_sha256"]
    row_of = {
        row["post_id"]: row for row in tables.read(path, columns, stage="measure").to_pylist()
    }
    by_label: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in kept:
        by_label[row["label"]].append(row)
    measured = SpanReader(
        path.parent, stage="measure", table=path.name, remedy="Run stage 'measure' again."
    )
    pairs: list[LikePair] = []
    with measured:
        for label, rows in sorted(by_label.items()):
            pixels = [_pixels(row_of[row["post_id"]], measured) for row in rows]
            posts, splits = ([row[name] for row in rows] for name in ("post_id", "split"))
            pairs += like_pairs(label, posts, splits, stacked(pixels))
    return sorted(pairs, key=lambda pair: (pair.difference, pair.post_a, pair.post_b))[:MOST]


def _pixels(row: Mapping[str, Any], measured: SpanReader) -> Pixels:
    data = measured.read(
        row["post_id"],
        row["image_tar"],
        offset=row["offset"],
        size=row["image_bytes"],
        sha256=row["image_sha256"],
    )
    return thumbnail(data, shape=(row["width"], row["height"]), side=SIDE)


def _duplicate_distance(data_dir: Path) -> int | None:
    """Returns the distance that the table of stage `duplicates` records; None if it records none."""
    metadata = pq.read_schema(_groups(data_dir)).metadata or {}
    value = json.loads(metadata.get(b"personae.params", b"{}")).get("distance")
    return None if value is None else int(value)


def _decisions(
    labelled: Sequence[Mapping[str, Any]], assignments: Mapping[int, Assignment]
) -> pa.Table:
    """Returns one row per labelled post; `bridges_splits` compares the number of splits with 1."""
    rows = []
    for row in labelled:
        decision = {"post_id": row["post_id"], "stage": "split", "kept": True}
        touched = len(assignments[row["post_id"]].splits)
        if touched > 1:
            decision |= {"kept": False, "reason": "bridges_splits"}
            decision |= {"measured": float(touched), "threshold": 1.0}
        rows.append(decision)
    return pa.Table.from_pylist(rows, schema=DECISIONS)
