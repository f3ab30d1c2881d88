"""
Stage `duplicates`: groups posts that show the same image, and keeps one post of each group.

Reads what `filters` kept, the measures, the normalised images and the posts. Six rules link two
posts: the same file (`exact`), the same pixels by the board's own hash (`pixel_hash`), perceptual
hashes that are close, and pixels that agree too (`near`), parent and child (`family`), the same
drawing by its keypoints (`artwork`), the same source URL (`source`). The first four make a group of
one image. The last two only keep posts in one split, unless a parameter says otherwise. Writes the
groups, the decisions, every link, and the pairs with close hashes but different pixels. With
`keep: all`, every post is kept and the groups are only reported.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curation import artwork, workers
from curation import image as images
from curation.groups import groups_of
from curation.links import (
    JOINING,
    REASONS,
    DuplicateCandidate,
    Link,
    family_links,
    same_key,
    source_links,
    survivor,
)
from curation.near import near_links
from curation.params.duplicates import Params
from curation.spans import SpanReader
from personae import tables
from personae.decisions import DECISIONS
from personae.errors import MissingInput
from personae.progress import Progress

log = logging.getLogger(__name__)

GROUPS = pa.schema(
    {
        "post_id": pa.int64(),
        "group_id": pa.int64(),
        "representative": pa.bool_(),
        "link": pa.string(),
        "distance": pa.int32(),
    }
)
LINKS = pa.schema(
    {
        "post_a": pa.int64(),
        "post_b": pa.int64(),
        "link": pa.string(),
        "distance": pa.int32(),
        "difference": pa.float64(),
        "inliers": pa.int32(),
        "mirrored": pa.bool_(),
    }
)


def run(params: Params, *, data_dir: Path, work_dir: Path) -> None:  # noqa: ARG001  # every stage has this signature
    """
    Groups the posts that `filters` kept, and keeps one post of each group, or all posts.

    Raises:
        MissingInput, MissingColumn: A table or tar of an earlier stage is absent or incomplete.
        TamperedData: A normalised or stored image does not have its recorded sha256.
        WorkerLost: A worker process was killed.
    """
    posts, measures = _read(data_dir)
    links = same_key(posts, "exact", lambda post: post.sha256)
    links += same_key(posts, "exact", lambda post: post.md5)
    links += same_key(posts, "pixel_hash", lambda post: post.pixel_hash)
    near, apart = _near(params, posts, measures, data_dir / "measure")
    links += near
    links += family_links(posts) if params.families else []
    links += source_links(posts, params.source_posts)
    linked = {(link.post_a, link.post_b) for link in links}
    drawings = _by_keypoints(params, posts, measures, data_dir)
    links += [link for link in drawings if (link.post_a, link.post_b) not in linked]
    links = sorted(set(links), key=_order)
    joining = (*JOINING, "artwork") if params.artwork == "one_image" else JOINING
    pairs = ((link.post_a, link.post_b) for link in links if link.kind in joining)
    group_of = groups_of((post.post_id for post in posts), pairs)
    members: dict[int, list[DuplicateCandidate]] = defaultdict(list)
    for post in posts:
        members[group_of[post.post_id]].append(post)
    chosen = {survivor(group) for group in members.values()}
    kept = chosen if params.keep == "one" else set(group_of)
    joined = [link for link in links if link.kind in joining]
    groups = _groups(joined, group_of, chosen)
    decisions = _decisions(joined, group_of, kept, params)
    out = data_dir / "duplicates"
    metadata = {"personae.params": params.model_dump_json(exclude={"workers"})}
    tables.write(out / "links.parquet", _pairs(links))
    tables.write(out / "apart.parquet", _pairs(apart))
    tables.write(out / "decisions.parquet", decisions)
    tables.write(out / "groups.parquet", groups.replace_schema_metadata(metadata))
    kinds = Counter(link.kind for link in links)
    log.info(
        "duplicates: %d of %d posts kept, %d groups, largest %d; links: %s; near hashes with "
        "different pixels: %d",
        len(kept),
        len(posts),
        len(members),
        max((len(group) for group in members.values()), default=0),
        ", ".join(f"{kind} {kinds[kind]}" for kind in REASONS if kinds[kind]) or "none",
        len(apart),
    )


def _read(data_dir: Path) -> tuple[list[DuplicateCandidate], dict[int, dict[str, Any]]]:
    """Returns the posts that `filters` kept, by id, and their rows of measures.parquet."""
    path = data_dir / "filters" / "decisions.parquet"
    decisions = tables.read(path, ["post_id", "kept"], stage="filters").to_pylist()
    kept = sorted(row["post_id"] for row in decisions if row["kept"])
    columns = ["post_id", "sha256", "phash", "width", "height"]
    columns += ["image_tar", "offset", "image_bytes", "image_sha256"]
    measures = _by_post(data_dir / "measure" / "measures.parquet", columns, "measure", kept)
    columns = ["post_id", "md5", "pixel_hash", "parent_id", "source", "score"]
    columns += ["image_width", "image_height"]
    listed = _by_post(data_dir / "listing" / "posts.parquet", columns, "listing", kept)
    posts = [
        DuplicateCandidate(
            post_id=post_id,
            sha256=measures[post_id]["sha256"],
            md5=row["md5"],
            pixel_hash=row["pixel_hash"],
            parent_id=row["parent_id"],
            source=row["source"] or "",
            score=row["score"] or 0,
            pixels=(row["image_width"] or 0) * (row["image_height"] or 0),
        )
        for post_id, row in sorted(listed.items())
    ]
    return posts, measures


def _by_post(
    path: Path, columns: list[str], stage: str, kept: Sequence[int]
) -> dict[int, dict[str, Any]]:
    table = tables.read(path, columns, stage=stage)
    is_kept = np.isin(table["post_id"].to_numpy(), np.asarray(kept, np.int64))
    rows = {row["post_id"]: row for row in table.filter(pa.array(is_kept)).to_pylist()}
    if len(rows) != len(kept):
        absent = next(post_id for post_id in kept if post_id not in rows)
        raise MissingInput(
            f"{path} lacks post {absent}, which stage 'filters' kept: the tables come from "
            f"different runs. Run stage '{stage}' and those after it again."
        )
    return rows


def _near(
    params: Params,
    posts: Sequence[DuplicateCandidate],
    measures: Mapping[int, Mapping[str, Any]],
    measure_dir: Path,
) -> tuple[list[Link], list[Link]]:
    """Returns the near pairs of different files with like pixels, and those with different pixels."""
    files: set[str] = set()
    different = []
    for post in posts:
        if files.isdisjoint(names := {post.sha256, post.md5 or post.sha256}):
            different.append(post)
        files |= names
    packed = b"".join(measures[post.post_id]["phash"] for post in different)
    hashes = np.frombuffer(packed, np.uint64).reshape(-1, 4)
    measured = SpanReader(
        measure_dir,
        stage="measure",
        table="measures.parquet",
        remedy="Run stage 'measure' again.",
    )
    with measured:
        return near_links(
            different,
            hashes,
            _Thumbnails(measures, measured).__getitem__,
            distance=params.distance,
            max_difference=params.max_difference,
        )


class _Thumbnails:
    """The normalised images by post id at 32 × 32 pixels, each read and decoded once."""

    def __init__(self, measures: Mapping[int, Mapping[str, Any]], measured: SpanReader) -> None:
        self._measures, self._measured = measures, measured
        self._known: dict[int, images.Pixels] = {}

    def __getitem__(self, post_id: int) -> images.Pixels:
        if post_id not in self._known:
            row = self._measures[post_id]
            data = self._measured.read(
                post_id,
                row["image_tar"],
                offset=row["offset"],
                size=row["image_bytes"],
                sha256=row["image_sha256"],
            )
            shape = (row["width"], row["height"])
            self._known[post_id] = images.thumbnail(data, shape=shape, side=32)
        return self._known[post_id]


def _by_keypoints(
    params: Params,
    posts: Sequence[DuplicateCandidate],
    measures: Mapping[int, Mapping[str, Any]],
    data_dir: Path,
) -> list[Link]:
    """Returns the links between posts of one label whose keypoints agree; equal files are one."""
    if params.artwork == "ignore":
        return []
    table = tables.read(
        data_dir / "decide" / "kept.parquet", ["post_id", "persona"], stage="decide"
    )
    label_of = dict(zip(*(table[name].to_pylist() for name in table.column_names), strict=True))
    columns = ["post_id", "segment", "offset", "file_bytes", "sha256"]
    kept = [post.post_id for post in posts]
    stored = _by_post(data_dir / "download" / "images.parquet", columns, "download", kept)
    by_label: dict[str, dict[str, artwork.StoredArtwork]] = defaultdict(dict)
    for post_id in kept:
        row, size = stored[post_id], measures[post_id]
        if artwork.is_large_enough(size["width"], size["height"]):
            image = artwork.StoredArtwork(
                post_id, row["segment"], row["offset"], row["file_bytes"], row["sha256"]
            )
            by_label[label_of[post_id]].setdefault(row["sha256"], image)
    labels = [
        artwork.LabelImages(
            tuple(images.values()), data_dir / "download" / "segments", params.artwork_inliers
        )
        for _, images in sorted(by_label.items(), key=lambda item: (-len(item[1]), item[0]))
    ]
    processes = min(params.workers or workers.cores(), len(labels))
    pairs = workers.in_processes(
        artwork.pairs_of_label, labels, workers=processes, stage="duplicates"
    )
    links: list[Link] = []
    with Progress("duplicates, labels", len(labels)) as progress:
        for of_label in pairs:
            links += [
                Link(
                    pair.post_a,
                    pair.post_b,
                    "near" if _is_copy(pair, params) else "artwork",
                    difference=pair.difference,
                    inliers=pair.inliers,
                    mirrored=pair.mirrored,
                )
                for pair in of_label
            ]
            progress.advance(text=f"{len(links)} pairs of one drawing")
    return links


def _is_copy(pair: artwork.ArtworkPair, params: Params) -> bool:
    """Returns whether two images of one drawing are one image: cropped, framed, turned, recoloured."""
    return pair.difference <= params.copy_difference and pair.overlap >= params.copy_overlap


def _order(link: Link) -> tuple[int, int, int]:
    return link.post_a, link.post_b, list(REASONS).index(link.kind)


def _pairs(links: Iterable[Link]) -> pa.Table:
    rows = [
        {
            "post_a": link.post_a,
            "post_b": link.post_b,
            "link": link.kind,
            "distance": link.distance,
            "difference": link.difference,
            "inliers": link.inliers,
            "mirrored": link.mirrored,
        }
        for link in links
    ]
    return pa.Table.from_pylist(rows, schema=LINKS)


def _kinds(links: Iterable[Link]) -> dict[int, dict[str, int | None]]:
    """Returns the kinds of links of each post, with the smallest distance of `near`."""
    kinds: dict[int, dict[str, int | None]] = defaultdict(dict)
    for link in links:
        for post in (link.post_a, link.post_b):
            known = (kinds[post].get(link.kind), link.distance)
            kinds[post][link.kind] = min((bits for bits in known if bits is not None), default=None)
    return kinds


def _groups(links: Iterable[Link], group_of: Mapping[int, int], chosen: set[int]) -> pa.Table:
    """Returns one row per post; all but the representative of a group have the link that joins them."""
    kinds = _kinds(links)
    rows: list[dict[str, Any]] = []
    for post_id, group_id in sorted(group_of.items()):
        row: dict[str, Any] = {"post_id": post_id, "group_id": group_id}
        row["representative"] = post_id in chosen
        if post_id not in chosen:
            strongest = next(kind for kind in REASONS if kind in kinds[post_id])
            row |= {"link": strongest, "distance": kinds[post_id].get("near")}
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=GROUPS)


def _decisions(
    links: Iterable[Link], group_of: Mapping[int, int], kept: set[int], params: Params
) -> pa.Table:
    """Returns one row per kept post, and for a refused post one row per kind of its links."""
    kinds = _kinds(links)
    rows: list[dict[str, Any]] = []
    for post_id in sorted(group_of):
        row = {"post_id": post_id, "stage": "duplicates", "kept": post_id in kept}
        if post_id in kept:
            rows.append(row)
            continue
        for kind in [kind for kind in REASONS if kind in kinds[post_id]]:
            bits = kinds[post_id][kind]
            compared = {"measured": bits, "threshold": params.distance} if bits is not None else {}
            rows.append(row | {"reason": REASONS[kind]} | compared)
    return pa.Table.from_pylist(rows, schema=DECISIONS)
