"""
Stage `split`: draws train, validation and test by duplicate group.

Reads the labels, the duplicate groups and their links, the measures, the tags, and the file of posts
that keep their split. Writes split.parquet, decisions.parquet and certificate.json, which names the
closest images of different splits.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation import certificate, given, keep, stratified
from curation import pairs as split_pairs
from curation import rows as rows_by_id
from curation.assignment import (
    Assignment,
    KeptSplits,
    assign,
    assign_drawn,
    assign_folds,
    drawn,
)
from curation.background import white_background
from curation.documents import CertificateDocument, LikePair
from curation.edges import SIDE, stacked
from curation.errors import LeakingSplit, TooFewSamples
from curation.groups import groups_of
from curation.image import Pixels, thumbnail
from curation.like import MOST, like_pairs
from curation.params.split import Params
from curation.spans import SpanReader
from personae import decisions, tables
from personae.errors import BadParams, MissingInput
from personae.selection import SPLITS

log = logging.getLogger(__name__)

Ids = npt.NDArray[np.int64]

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
        BadParams: The file of kept splits is damaged, or has posts and the mode is given.
    """
    path = data_dir / "persona" / "labels.parquet"
    labels = rows_by_id.ordered(tables.read(path, ["post_id", "label", "leaf"], stage="persona"))
    posts = labels["post_id"].to_numpy()
    kept_splits = keep.read(Path(params.keep))
    assignment, pairs = _assigned(params, data_dir, labels, kept_splits)
    rows = _rows(assignment, posts)
    touched = np.bitwise_count(assignment.splits[rows])
    kept = _kept(params, data_dir, labels, assignment, rows)
    if params.folds is not None:
        folds = assign_folds(assignment, pairs, seed=params.seed, folds=params.folds)
        folds = folds[rows[touched == 1]]
        kept = kept.append_column("fold", pa.array(folds, pa.int32(), mask=folds < 0))
        _check_folds(kept, params.folds)
    # The search of the certificate needs the memory of what has been assigned.
    del labels, pairs, assignment, rows
    certified = _certificate(params, data_dir, kept, _shares(params, kept))
    # Without effect they are left out, so that a split keeps the bytes of older versions.
    has_effect = {"folds": params.folds is not None, "keep": len(kept_splits.posts) > 0}
    unset = {name for name, has in has_effect.items() if not has}
    recorded = params.model_dump_json(exclude=unset)
    _write(data_dir / "split", recorded, kept, _decisions(posts, touched), certified)
    counts = Counter(
        {row["values"]: row["counts"] for row in pc.value_counts(kept["split"]).to_pylist()}
    )
    log.info(
        "split: %d of %d posts kept (%s), bridges_splits %d, closest pair %s",
        kept.num_rows,
        len(posts),
        ", ".join(f"{name} {counts[name]}" for name in SPLITS),
        len(posts) - kept.num_rows,
        certified.closest and certified.closest.model_dump(),
    )


def _assigned(
    params: Params, data_dir: Path, labels: pa.Table, kept_splits: KeptSplits
) -> tuple[Assignment, Ids]:
    """Returns the splits of all duplicate groups, and the pairs of posts that must not be parted."""
    if params.mode == "given" and len(kept_splits.posts):
        raise BadParams(
            f"{params.keep} keeps posts in their split ({len(kept_splits.posts)}), but "
            "`split.mode: given` takes every split from the source. Delete all lines of the file but its "
            "header, or use another mode."
        )
    groups = rows_by_id.ordered(
        tables.read(_groups(data_dir), ["post_id", "group_id"], stage="duplicates")
    )
    posts = groups["post_id"].to_numpy()
    pairs = split_pairs.of_split(data_dir, posts, kept_splits.posts)
    if params.mode == "given":
        return _given(params, data_dir, groups, pairs, labels), pairs
    seed, train, val = params.seed, params.train, params.val
    if params.mode == "hash":
        return assign(posts, pairs, seed=seed, train=train, val=val, kept=kept_splits), pairs
    numbers = stratified.label_numbers(labels, posts)
    draws = stratified.draws(
        posts, pairs, numbers, seed=seed, train=train, val=val, kept=kept_splits
    )
    return assign_drawn(posts, pairs, draws.__getitem__, kept=kept_splits), pairs


def _rows(assignment: Assignment, posts: Ids) -> Ids:
    """
    Returns the row of each of `posts` in an assignment.

    Raises:
        MissingInput: A post is not in it.
    """
    absent = np.setdiff1d(posts, assignment.posts, assume_unique=True)
    if len(absent):
        raise MissingInput(
            f"Post {absent[0]} has a label but no duplicate group: the two tables come "
            "from different runs. Run stages 'duplicates' and 'persona' again."
        )
    return np.searchsorted(assignment.posts, posts)


def _write(
    out_dir: Path,
    recorded: str,
    kept: pa.Table,
    decided: pa.Table,
    certified: CertificateDocument,
) -> None:
    """Writes the three files of the stage; `recorded` are the parameters as JSON."""
    has_folds = "fold" in kept.column_names
    schema = SCHEMA.append(pa.field("fold", pa.int32())) if has_folds else SCHEMA
    table = kept.select(schema.names).cast(schema)
    table = table.replace_schema_metadata({"personae.params": recorded})
    tables.write(out_dir / "split.parquet", table)
    tables.write(out_dir / "decisions.parquet", decided)
    certified.write(out_dir / "certificate.json")


def _kept(
    params: Params, data_dir: Path, labels: pa.Table, assignment: Assignment, rows: Ids
) -> pa.Table:
    """Returns the labelled posts with a single split, by id; `rows` are their rows of `assignment`."""
    splits = assignment.splits[rows]
    is_kept = np.bitwise_count(splits) == 1
    kept = labels.filter(pa.array(is_kept)).combine_chunks()
    columns = {
        "group_id": assignment.group_ids[rows[is_kept]],
        # Bit 0, 1 or 2.
        "split": pa.array(SPLITS, pa.string()).take(pa.array(splits[is_kept] >> 1)),
        "white_background": white_background(
            data_dir,
            kept["post_id"].to_numpy(),
            kept["label"].combine_chunks(),
            white_border=params.white_border,
        ),
    }
    for name, column in columns.items():
        kept = kept.append_column(name, pa.array(column))
    return kept


def _given(
    params: Params, data_dir: Path, groups: pa.Table, pairs: Ids, labels: pa.Table
) -> Assignment:
    """Takes the splits of the source; if the source has no val, part of `val_from` becomes val."""
    posts, group_ids = groups["post_id"].to_numpy(), groups["group_id"].to_numpy()
    joined = rows_by_id.distinct(group_ids)
    groups_of_pairs = group_ids[np.searchsorted(posts, pairs)]
    group_ids = groups_of(joined, groups_of_pairs)[np.searchsorted(joined, group_ids)]
    path = data_dir / "listing" / "posts.parquet"
    of_source = rows_by_id.of_posts(path, ["given_split"], posts, stage="listing")["given_split"]
    splits = pc.index_in(of_source, pa.array(SPLITS))
    if splits.null_count:
        row = splits.is_null().index(value=True).as_py()
        raise MissingInput(
            f"Post {posts[row]} has the given split {of_source[row].as_py()!r}, not train, val or "
            "test: `mode: given` needs a split for every post. Correct the source, or use "
            "another mode."
        )
    split = splits.to_numpy().copy()
    val = SPLITS.index("val")
    has_val = bool((split == val).any())
    if has_val and params.val_per_label is not None:
        raise BadParams(
            "`split.val_per_label` takes a validation split from another split, but the source has a "
            "validation split of its own. Leave the parameter out to use it."
        )
    giving = split == SPLITS.index(params.val_from)
    if params.val_per_label is not None:
        group_of = dict(zip(posts[giving].tolist(), group_ids[giving].tolist(), strict=True))
        label_of = dict(
            zip(labels["post_id"].to_pylist(), labels["label"].to_pylist(), strict=True)
        )
        chosen = given.validation(
            {post: group for post, group in group_of.items() if post in label_of},
            label_of,
            per_label=params.val_per_label,
            seed=params.seed,
        )
        split[np.isin(posts, np.array(sorted(chosen), np.int64))] = val
    elif not has_val:
        keep = params.train / (params.train + params.val)
        names = rows_by_id.distinct(group_ids)
        draws = [
            drawn(group, seed=params.seed, train=keep, val=1 - keep) for group in names.tolist()
        ]
        split[giving & (np.array(draws) == "val")[np.searchsorted(names, group_ids)]] = val
    return Assignment(posts, group_ids, (1 << split).astype(np.uint8))


def _groups(data_dir: Path) -> Path:
    return data_dir / "duplicates" / "groups.parquet"


def _shares(params: Params, kept: pa.Table) -> dict[str, dict[str, float]]:
    """
    Returns the share of each split, 0..1, for each label.

    Raises:
        TooFewSamples: A share is outside the tolerance, or a split has no sample of a label.
    """
    expected = {name: getattr(params, name) for name in SPLITS}
    shares = {}
    splits = pc.index_in(kept["split"], pa.array(SPLITS)).to_numpy()
    for label, rows in rows_by_id.by_value(kept["label"]):
        counts = dict(zip(SPLITS, np.bincount(splits[rows], minlength=3).tolist(), strict=True))
        shares[label] = {name: round(counts[name] / len(rows), 6) for name in SPLITS}
        name = max(SPLITS, key=lambda name: (abs(shares[label][name] - expected[name]), name))
        empty = [name for name in SPLITS if not counts[name]]
        far = abs(shares[label][name] - expected[name]) > params.tolerance + 1e-9
        if params.mode == "stratified" and empty:
            raise TooFewSamples(
                f"Label '{label}' has no sample in {empty[0]}: its {len(rows)} samples are in fewer groups "
                "of images of one drawing than there are splits. Raise `persona.min_samples` to leave "
                "small labels out."
            )
        if params.mode == "hash" and (far or empty):
            name = empty[0] if empty else name
            remedy = "choose" if empty else "raise `split.tolerance`, choose"
            raise TooFewSamples(
                f"Label '{label}' has {counts[name]} of its {len(rows)} samples in {name}, a "
                f"share of {shares[label][name]:.3f} where {expected[name]:g} ± "
                f"{params.tolerance:g} and at least one sample are required: splits are drawn by "
                f"hash, and the shares of few samples vary widely. Set `split.mode: stratified`, which "
                f"gives every label its shares. Or {remedy} another `split.seed`, or raise "
                "`persona.min_samples` to leave small labels out."
            )
    given.warn_of_absent(shares)
    return shares


def _check_folds(kept: pa.Table, folds: int) -> None:
    """
    Makes sure that every label has a sample in every fold.

    Raises:
        TooFewSamples: A label has none.
    """
    fold = pc.fill_null(kept["fold"], folds).to_numpy()
    for label, rows in rows_by_id.by_value(kept["label"]):
        empty = np.setdiff1d(np.arange(folds), fold[rows])
        if len(empty):
            raise TooFewSamples(
                f"Label '{label}' has no sample in fold {empty[0]} of {folds}: folds are drawn by hash "
                "for each duplicate group of train and val. Lower `split.folds`, choose another "
                "`split.seed`, or raise `persona.min_samples` to leave small labels out."
            )


def _certificate(
    params: Params,
    data_dir: Path,
    kept: pa.Table,
    shares: dict[str, dict[str, float]],
) -> CertificateDocument:
    """
    Returns the certificate of the split; see `curation.certificate`.

    Raises:
        LeakingSplit: The closest pair is a duplicate by its hashes or edges, and the split is not
            given.
    """
    measures = rows_by_id.of_posts(
        data_dir / "measure" / "measures.parquet",
        ["phash"],
        kept["post_id"].to_numpy(),
        stage="measure",
    )
    apart = split_pairs.read(data_dir / "duplicates" / "apart.parquet")
    limit = _duplicate_distance(data_dir)
    certified = certificate.certify(
        kept,
        hashes=measures["phash"],
        apart=apart,
        limit=limit,
        like=_like(params, data_dir, kept),
        least_difference=params.least_difference,
        mode=params.mode,
        seed=params.seed,
        shares=shares,
    )
    closest = certified.closest
    if closest is not None and not closest.above and params.mode != "given":
        raise LeakingSplit(
            f"Posts {closest.post_a} ({closest.split_a}) and {closest.post_b} "
            f"({closest.split_b}) differ in {closest.distance} of 256 bits, which is not more than "
            f"the {limit} of duplicates, but no link joins them and their pixels were not found to "
            "differ. Run stage 'duplicates' again. If the tables are of the same run, report this "
            "as a defect."
        )
    nearest = certified.like[0] if certified.like else None
    if nearest and nearest.difference <= params.least_difference and params.mode != "given":
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


def _like(params: Params, data_dir: Path, kept: pa.Table) -> list[LikePair]:
    """Returns the pairs of different splits whose edges are most similar, closest first."""
    if not params.least_difference:
        return []
    path = data_dir / "measure" / "measures.parquet"
    columns = ["width", "height", "image_tar", "offset", "image_bytes", "image_sha256"]
    stored = rows_by_id.of_posts(path, columns, kept["post_id"].to_numpy(), stage="measure")
    reader = SpanReader(
        path.parent, stage="measure", table=path.name, remedy="Run stage 'measure' again."
    )
    pairs: list[LikePair] = []
    with reader:
        for label, rows in rows_by_id.by_value(kept["label"]):
            of_label = kept.select(["post_id", "split"]).take(pa.array(rows)).to_pydict()
            pixels = [_pixels(row, reader) for row in stored.take(pa.array(rows)).to_pylist()]
            pairs += like_pairs(label, of_label["post_id"], of_label["split"], stacked(pixels))
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
    params = tables.recorded(_groups(data_dir), "personae.params", stage="duplicates")
    value = params.get("distance")
    return None if value is None else int(value)


def _decisions(posts: Ids, touched: npt.NDArray[np.uint8]) -> pa.Table:
    """Returns one row per labelled post; `bridges_splits` compares the number of splits with 1."""
    is_kept = touched == 1
    reasons = pa.array([None, "bridges_splits"], pa.string())
    return decisions.table(
        "split",
        posts,
        reasons.take(pa.array((~is_kept).astype(np.int8))),
        measured=pa.array(touched.astype(np.float64), mask=is_kept),
        threshold=pa.array(np.ones(len(posts)), mask=is_kept),
    )
