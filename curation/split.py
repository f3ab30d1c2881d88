"""
Stage `split`: train, validation and test by duplicate group.

Reads the labels, the duplicate groups and their links, the measures and the tags. Writes
split.parquet, decisions.parquet and certificate.json, which names the closest images that stand
on different sides.
"""

import hashlib
import json
import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, model_validator

from curation import certificate, given
from curation.decisions import DECISIONS
from curation.errors import LeakingSplit, TooFewSamples
from personae import files, tables
from personae.errors import BadParams, MissingInput

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
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


class Params(BaseModel):
    """Section `split`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: float = Field(0.6, gt=0, lt=1, description="share of the groups that train")
    val: float = Field(
        0.15, gt=0, lt=1, description="share for early stopping and for the confusion to cluster"
    )
    test: float = Field(0.25, gt=0, lt=1, description="share that only `evaluate` reads")
    seed: int = Field(0, ge=0, description="another seed draws other sides")
    tolerance: float = Field(
        0.1,
        gt=0,
        le=1,
        description="largest difference between a label's share and the wanted one; 0.1 is four "
        "standard deviations at 300 samples",
    )
    mode: Literal["hash", "given"] = Field(
        "hash", description="`hash` draws; `given` takes the source's own split and only reports"
    )
    val_from: Literal["train", "test"] = Field(
        "train",
        description="side of a given split without val that its val is taken from; `test` is the "
        "protocol of some papers, which choose on images of the official test set",
    )
    val_per_label: int | None = Field(
        None,
        ge=1,
        description="images of each label that `given` takes for val, exactly; none draws the "
        "share val / (train + val) of the side by hash",
    )
    white_border: float = Field(
        0.9,
        ge=0,
        le=1,
        description="least share of white pixels in the frame of a white background; 0.9 lets a "
        "foot or a tuft of hair cross it",
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if abs(self.train + self.val + self.test - 1) > 1e-9:
            raise ValueError(
                f"train, val and test add up to {self.train + self.val + self.test:g}, not to 1"
            )
        if self.mode == "hash" and (self.val_per_label is not None or self.val_from != "train"):
            raise ValueError("val_from and val_per_label are for `mode: given`")
        return self


@dataclass(frozen=True, slots=True)
class Side:
    """Where a post stands: one split, or several when it would bridge groups."""

    group_id: int
    """Smallest post id of the group, without the posts that would bridge."""
    splits: tuple[str, ...]
    """In the order train, val, test; more than one means refused as `bridges_splits`."""


def drawn(group_id: int, *, seed: int, train: float, val: float) -> str:
    """
    The side that chance gives a group: a number in [0, 1) from sha256 of `seed:group_id`,
    compared with `train` and `train + val`.
    """
    digest = hashlib.sha256(f"{seed}:{group_id}".encode()).digest()
    number = int.from_bytes(digest[:6], "big") / 2**48
    if number < train:
        return "train"
    return "val" if number < train + val else "test"


def sides(
    posts: Iterable[int],
    links: Iterable[tuple[int, int]],
    *,
    seed: int,
    train: float,
    val: float,
) -> dict[int, Side]:
    """
    Gives every post a side, in the order of ids, from posts with smaller ids alone.

    A post linked to none of them draws; a post linked to one side joins it; a post linked to
    several sides gets all of them, and so does whatever is linked to it later. So no later post
    ever changes an earlier one's side, and two linked posts of one side each agree.
    """
    known = sorted(set(posts))
    earlier: dict[int, list[int]] = defaultdict(list)
    for post_a, post_b in links:
        earlier[max(post_a, post_b)].append(min(post_a, post_b))
    found: dict[int, Side] = {}
    parent: dict[int, int] = {}
    for post in known:
        near = [other for other in earlier[post] if other in found]
        touched = {split for other in near for split in found[other].splits}
        parent[post] = post
        if len(touched) <= 1:
            roots = {_root(parent, other) for other in near} | {post}
            for root in roots:
                parent[root] = min(roots)
        splits = touched or {drawn(post, seed=seed, train=train, val=val)}
        found[post] = Side(post, tuple(split for split in SPLITS if split in splits))
    return {post: Side(_root(parent, post), side.splits) for post, side in found.items()}


def run(params: Params, *, data_dir: Path, work_dir: Path) -> None:  # noqa: ARG001  # every stage has this signature
    """
    Writes `split/split.parquet`, `split/decisions.parquet` and `split/certificate.json`.

    Raises:
        TooFewSamples: A label's share is further from the wanted one than `tolerance`, or a label
            of a given split has not `val_per_label` images to give.
        LeakingSplit: Two images nearer than the duplicates' distance stand on different sides.
    """
    labels = tables.read(
        data_dir / "persona" / "labels.parquet", ["post_id", "label", "leaf"], stage="persona"
    ).sort_by("post_id")
    labelled = labels.to_pylist()
    if params.mode == "given":
        found = _given(params, data_dir, {row["post_id"]: row["label"] for row in labelled})
    else:
        found = _drawn(params, data_dir)
    for row in labelled:
        if row["post_id"] not in found:
            raise MissingInput(
                f"Post {row['post_id']} has a label but no duplicate group: the two tables come "
                "from different runs. Run stages 'duplicates' and 'persona' again."
            )
    kept = [row for row in labelled if len(found[row["post_id"]].splits) == 1]
    white = _white_background(params, data_dir, {row["post_id"]: row["label"] for row in kept})
    for row in kept:
        side = found[row["post_id"]]
        row |= {
            "group_id": side.group_id,
            "split": side.splits[0],
            "white_background": white[row["post_id"]],
        }
    shares = _shares(params, kept)
    certified = _certificate(params, data_dir, kept) | {"shares": shares}
    out = data_dir / "split"
    metadata = {"personae.params": params.model_dump_json()}
    tables.write(
        out / "split.parquet",
        pa.Table.from_pylist(kept, schema=SCHEMA).replace_schema_metadata(metadata),
    )
    tables.write(out / "decisions.parquet", _decisions(labelled, found))
    files.write_json(out / "certificate.json", certified)
    counts = Counter(row["split"] for row in kept)
    log.info(
        "split: %d of %d posts kept (%s), bridges_splits %d, closest pair %s",
        len(kept),
        len(labelled),
        ", ".join(f"{name} {counts[name]}" for name in SPLITS),
        len(labelled) - len(kept),
        certified["closest"],
    )


def _drawn(params: Params, data_dir: Path) -> dict[int, Side]:
    posts = _by_post(_groups(data_dir), "group_id", stage="duplicates")
    links = tables.read(
        data_dir / "duplicates" / "links.parquet", ["post_a", "post_b"], stage="duplicates"
    )
    pairs = zip(*(links[name].to_numpy().tolist() for name in ("post_a", "post_b")), strict=True)
    told = _told_together(data_dir, posts)
    return sides(posts, [*pairs, *told], seed=params.seed, train=params.train, val=params.val)


def _given(params: Params, data_dir: Path, label_of: Mapping[int, str]) -> dict[int, Side]:
    """The source's sides; where it knows no `val`, part of `val_from` becomes it."""
    group_of = _by_post(_groups(data_dir), "group_id", stage="duplicates")
    group_of = _joined(group_of, _told_together(data_dir, group_of))
    of_source = _by_post(data_dir / "listing" / "posts.parquet", "given_split", stage="listing")
    names = {of_source.get(post) for post in group_of}
    if not names <= set(SPLITS):
        post = min(post for post in group_of if of_source.get(post) not in SPLITS)
        raise MissingInput(
            f"Post {post} has the given split {of_source.get(post)!r}, not train, val or test: "
            "`mode: given` needs one for every post. Fix the source, or use `mode: hash`."
        )
    if "val" in names and params.val_per_label is not None:
        raise BadParams(
            "`split.val_per_label` takes a validation part, but the source has one of its own. "
            "Leave it out to use the source's."
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
        sides_of = {
            group: drawn(group, seed=params.seed, train=keep, val=1 - keep)
            for group in set(group_of.values())
        }
        chosen = {post for post in giving if sides_of[group_of[post]] == "val"}
    return {
        post: Side(group, ("val" if post in chosen else str(of_source[post]),))
        for post, group in group_of.items()
    }


def _told_together(data_dir: Path, posts: Collection[int]) -> list[tuple[int, int]]:
    """Pairs that join the posts of each group that the source itself gave, by the smallest id."""
    told = _by_post(data_dir / "listing" / "posts.parquet", "given_group", stage="listing")
    first: dict[str, int] = {}
    return [
        (first.setdefault(told[post], post), post)
        for post in sorted(posts)
        if told.get(post) is not None
    ]


def _joined(group_of: Mapping[int, int], pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """The groups after pairs of their posts have joined some; a group is its smallest id."""
    parent = {group: group for group in group_of.values()}
    for post_a, post_b in pairs:
        root_a, root_b = _root(parent, group_of[post_a]), _root(parent, group_of[post_b])
        parent[max(root_a, root_b)] = min(root_a, root_b)
    return {post: _root(parent, group) for post, group in group_of.items()}


def _root(parent: dict[int, int], post: int) -> int:
    while parent[post] != post:
        parent[post] = parent[parent[post]]
        post = parent[post]
    return post


def _by_post(path: Path, column: str, *, stage: str) -> dict[int, Any]:
    table = tables.read(path, ["post_id", column], stage=stage)
    return dict(zip(table["post_id"].to_numpy().tolist(), table[column].to_pylist(), strict=True))


def _groups(data_dir: Path) -> Path:
    return data_dir / "duplicates" / "groups.parquet"


def _white_background(
    params: Params, data_dir: Path, label_of: Mapping[int, str]
) -> dict[int, bool]:
    """White by its border, and by its tags where it has any beyond what its source has given."""
    border = _by_post(data_dir / "measure" / "measures.parquet", "border_white", stage="measure")
    tagged = _by_post(data_dir / "decide" / "kept.parquet", "white_background_tag", stage="decide")
    kinds = [f"tags_{kind}" for kind in ("general", "character", "copyright", "artist", "meta")]
    posts = tables.read(
        data_dir / "listing" / "posts.parquet", ["post_id", "given_label", *kinds], stage="listing"
    )
    posts = posts.filter(pc.is_in(posts["post_id"], pa.array(list(label_of), pa.int64())))
    told = {
        row["post_id"]: row["given_label"] is None
        and any(tag != label_of[row["post_id"]] for kind in kinds for tag in row[kind])
        for row in posts.to_pylist()
    }
    return {
        post: (border.get(post) or 0.0) >= params.white_border
        and (tagged.get(post, False) or not told.get(post, False))
        for post in label_of
    }


def _shares(params: Params, kept: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """
    Share of each side per label.

    Raises:
        TooFewSamples: A share is outside the tolerance, or a side has no sample of a label.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in kept:
        counts[row["label"]][row["split"]] += 1
    wanted = {name: getattr(params, name) for name in SPLITS}
    shares = {}
    for label in sorted(counts):
        total = counts[label].total()
        shares[label] = {name: round(counts[label][name] / total, 6) for name in SPLITS}
        name = max(SPLITS, key=lambda name: (abs(shares[label][name] - wanted[name]), name))
        empty = [name for name in SPLITS if not counts[label][name]]
        far = abs(shares[label][name] - wanted[name]) > params.tolerance + 1e-9
        if params.mode == "hash" and (far or empty):
            name = empty[0] if empty else name
            remedy = "Choose" if empty else "Raise `split.tolerance`, choose"
            raise TooFewSamples(
                f"Label '{label}' has {counts[label][name]} of its {total} samples in {name}, a "
                f"share of {shares[label][name]:.3f} where {wanted[name]:g} ± "
                f"{params.tolerance:g} and at least one sample are wanted: sides are drawn by "
                f"hash, and few samples stray far. {remedy} another "
                "`split.seed`, or raise `persona.min_samples` to leave small labels out."
            )
    return shares


def _certificate(
    params: Params, data_dir: Path, kept: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """
    What is promised of the sides; see `curation.certificate`.

    Raises:
        LeakingSplit: The closest pair is a duplicate by its hash, and the split is ours.
    """
    hash_of = _by_post(data_dir / "measure" / "measures.parquet", "phash", stage="measure")
    told = tables.read(
        data_dir / "duplicates" / "apart.parquet", ["post_a", "post_b"], stage="duplicates"
    )
    limit = _duplicate_distance(data_dir)
    found = certificate.certify(
        kept,
        hashes={post: value for post, value in hash_of.items() if value is not None},
        apart=zip(*(told[name].to_numpy().tolist() for name in told.column_names), strict=True),
        limit=limit,
    )
    closest = found["closest"]
    if not found["passed"] and params.mode == "hash":
        raise LeakingSplit(
            f"Posts {closest['post_a']} ({closest['split_a']}) and {closest['post_b']} "
            f"({closest['split_b']}) differ in {closest['distance']} of 256 bits, not more than "
            f"the {limit} that make duplicates, yet no link joins them and the pixels were not "
            "found different. Run stage 'duplicates' again; if the tables are of one run, report "
            "this as a defect."
        )
    return found | {"mode": params.mode, "seed": params.seed}


def _duplicate_distance(data_dir: Path) -> int | None:
    """The distance of stage `duplicates`, as its table records it; None when it does not."""
    metadata = pq.read_schema(_groups(data_dir)).metadata or {}
    value = json.loads(metadata.get(b"personae.params", b"{}")).get("distance")
    return None if value is None else int(value)


def _decisions(labelled: Sequence[Mapping[str, Any]], found: Mapping[int, Side]) -> pa.Table:
    """One row per labelled post; a refused one compares the sides it touches with one."""
    rows = []
    for row in labelled:
        decision = {"post_id": row["post_id"], "stage": "split", "kept": True}
        touched = len(found[row["post_id"]].splits)
        if touched > 1:
            decision |= {"kept": False, "reason": "bridges_splits"}
            decision |= {"measured": float(touched), "threshold": 1.0}
        rows.append(decision)
    return pa.Table.from_pylist(rows, schema=DECISIONS)
