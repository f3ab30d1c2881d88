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
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation import artwork, rows, workers
from curation import image as images
from curation.bands import SharedSearch
from curation.groups import SEVERAL_LABELS, groups_of, of_several_labels
from curation.hamming import BandSearch
from curation.links import (
    JOINING,
    REASONS,
    Link,
    family_links,
    same_key,
    source_links,
    survivors,
)
from curation.near import near_links
from curation.params.duplicates import Params
from curation.spans import SpanReader
from personae import decisions, tables
from personae.engine import Engine
from personae.errors import MissingInput
from personae.progress import Progress

log = logging.getLogger(__name__)

Ids = npt.NDArray[np.int64]

_NO_BITS = 257  # more than the 256 bits of a hash can differ
_THUMBNAILS = 10_000  # in memory, 3 KB each

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


def run(
    params: Params,
    *,
    data_dir: Path,
    work_dir: Path,
    engine: Engine = "local",
) -> None:
    """
    Groups the posts that `filters` kept, and keeps one post of each group, or all posts.

    Raises:
        MissingInput, MissingColumn: A table or tar of an earlier stage is absent or incomplete.
        TamperedData: A normalised or stored image does not have its recorded sha256.
        WorkerLost: A worker process or a node was lost.
    """
    posts = rows.kept_by(data_dir, "filters")
    listed = _listed_links(params, posts, data_dir)
    shared = SharedSearch(work_dir / "duplicates", engine, params.workers)
    # Here, threads share the memory of the hashes.
    search = None if engine == "local" else shared
    near, apart = _near(params, posts, data_dir, listed, search)
    links = pa.concat_tables([listed, _table(near)])
    drawings = _table(_by_keypoints(params, posts, data_dir, engine))
    is_new = ~np.isin(_codes(posts, drawings), _codes(posts, links))
    links = _ordered(pa.concat_tables([links, drawings.filter(pa.array(is_new))]))
    joining = (*JOINING, "artwork") if params.artwork == "one_image" else JOINING
    joined = links.filter(pc.is_in(links["link"], pa.array(joining)))
    group_ids = groups_of(posts, _ends(joined))
    chosen = survivors(group_ids, _survival(posts, data_dir))
    is_chosen = np.isin(posts, chosen)
    is_kept = is_chosen if params.keep == "one" else np.ones_like(is_chosen)
    kinds = _kinds(posts, joined)
    columns = {"post_id": posts, "group_id": group_ids, "representative": is_chosen}
    groups = pa.table(columns | kinds.strongest(~is_chosen), schema=GROUPS)
    out = data_dir / "duplicates"
    metadata = {"personae.params": params.model_dump_json(exclude={"workers"})}
    tables.write(out / "links.parquet", links)
    tables.write(out / "apart.parquet", _table(apart))
    tables.write(out / "decisions.parquet", _decisions(posts, is_kept, kinds, params))
    tables.write(out / "groups.parquet", groups.replace_schema_metadata(metadata))
    counts = Counter(links["link"].to_pylist())
    sizes = np.unique_counts(group_ids).counts
    log.info(
        "duplicates: %d of %d posts kept, %d groups, largest %d; links: %s; near hashes with "
        "different pixels: %d",
        is_kept.sum(),
        len(posts),
        len(sizes),
        sizes.max(initial=0),
        ", ".join(f"{kind} {counts[kind]}" for kind in REASONS if counts[kind]) or "none",
        len(apart),
    )
    _warn_of_labels(posts, group_ids, data_dir)


def _warn_of_labels(posts: Ids, group_ids: Ids, data_dir: Path) -> None:
    """Logs how many groups of one image have posts of several labels, and how to list them."""
    is_shared = np.isin(group_ids, group_ids[group_ids != posts])
    kept = data_dir / "decide" / "kept.parquet"
    labels = _of_posts(kept, ["persona"], "decide", posts[is_shared])["persona"]
    if number := of_several_labels(group_ids[is_shared], labels):
        log.warning(
            "duplicates: images with posts of several labels: %d. A post that is kept has its own label, "
            "right or wrong. Correct them in relabel.txt; after stage 'catalog', this lists them:\n"
            '  python -m curation query "%s"',
            number,
            SEVERAL_LABELS,
        )


def _of_posts(path: Path, columns: list[str], stage: str, posts: Ids) -> pa.Table:
    table = rows.of_posts(path, columns, posts, stage=stage)
    if table["post_id"].null_count:
        absent = posts[table["post_id"].is_null().index(value=True).as_py()]
        raise MissingInput(
            f"{path} lacks post {absent}, which stage 'filters' kept: the tables come from "
            f"different runs. Run stage '{stage}' and those after it again."
        )
    return table


def _measures(data_dir: Path, columns: list[str], posts: Ids) -> pa.Table:
    return _of_posts(data_dir / "measure" / "measures.parquet", columns, "measure", posts)


def _listed(data_dir: Path, columns: list[str], posts: Ids) -> pa.Table:
    return _of_posts(data_dir / "listing" / "posts.parquet", columns, "listing", posts)


def _listed_links(params: Params, posts: Ids, data_dir: Path) -> pa.Table:
    """Returns the links by the board's own data; one column is in memory at a time."""
    sha256 = _measures(data_dir, ["sha256"], posts)["sha256"]
    links = [_of_kind("exact", same_key(posts, sha256))]
    for kind, column in (("exact", "md5"), ("pixel_hash", "pixel_hash")):
        links.append(_of_kind(kind, same_key(posts, _listed(data_dir, [column], posts)[column])))
    if params.families:
        parents = _listed(data_dir, ["parent_id"], posts)["parent_id"]
        links.append(_of_kind("family", family_links(posts, parents)))
    sources = _listed(data_dir, ["source"], posts)["source"]
    links.append(_of_kind("source", source_links(posts, sources, params.source_posts)))
    return pa.concat_tables(links)


def _survival(posts: Ids, data_dir: Path) -> pa.Table:
    """Returns what decides which post of a group is kept."""
    columns = ["parent_id", "score", "image_width", "image_height"]
    table = _listed(data_dir, columns, posts)
    width, height, score = (
        pc.fill_null(table[name], 0).cast(pa.int64()) for name in columns[:0:-1]
    )
    return pa.table(
        {
            "post_id": posts,
            "parent_id": table["parent_id"],
            "pixels": pc.multiply(width, height),
            "score": score,
        }
    )


def _near(
    params: Params, posts: Ids, data_dir: Path, listed: pa.Table, search: BandSearch | None
) -> tuple[list[Link], list[Link]]:
    """Returns the near pairs of different files with like pixels, and those with different pixels."""
    exact = listed.filter(pc.equal(listed["link"], "exact"))
    is_first = ~np.isin(posts, exact["post_b"].to_numpy())  # of its file
    hashes = rows.hashes(_measures(data_dir, ["phash"], posts)["phash"])[is_first]
    # Arrow keeps the memory of tables that are gone, which the search needs.
    pa.default_memory_pool().release_unused()
    measured = SpanReader(
        data_dir / "measure",
        stage="measure",
        table="measures.parquet",
        remedy="Run stage 'measure' again.",
    )
    with measured:
        thumbnails = _Thumbnails(posts, data_dir, measured)
        return near_links(
            posts[is_first],
            hashes,
            lru_cache(_THUMBNAILS)(thumbnails.__getitem__),
            distance=params.distance,
            max_difference=params.max_difference,
            search=search,
        )


class _Thumbnails:
    """The normalised images by post id at 32 × 32 pixels."""

    def __init__(self, posts: Ids, data_dir: Path, measured: SpanReader) -> None:
        self._posts, self._data_dir, self._measured = posts, data_dir, measured

    @cached_property
    def _measures(self) -> pa.Table:
        columns = ["width", "height", "image_tar", "offset", "image_bytes", "image_sha256"]
        return _measures(self._data_dir, columns, self._posts)

    def __getitem__(self, post_id: int) -> images.Pixels:
        index = int(np.searchsorted(self._posts, post_id))
        row = self._measures.slice(index, 1).to_pylist()[0]
        data = self._measured.read(
            post_id,
            row["image_tar"],
            offset=row["offset"],
            size=row["image_bytes"],
            sha256=row["image_sha256"],
        )
        return images.thumbnail(data, shape=(row["width"], row["height"]), side=32)


def _by_keypoints(params: Params, posts: Ids, data_dir: Path, engine: Engine) -> list[Link]:
    """Returns the links between posts of one label whose keypoints agree; equal files are one."""
    if params.artwork == "ignore":
        return []
    sizes = _measures(data_dir, ["width", "height"], posts)
    large = posts[artwork.is_large_enough(sizes["width"].to_numpy(), sizes["height"].to_numpy())]
    kept = data_dir / "decide" / "kept.parquet"
    names = _of_posts(kept, ["persona"], "decide", large)["persona"]
    columns = ["segment", "offset", "file_bytes", "sha256"]
    stored = _of_posts(data_dir / "download" / "images.parquet", columns, "download", large)
    by_label: dict[str, tuple[artwork.StoredArtwork, ...]] = {}
    for label, of_label in rows.by_value(names):
        by_file: dict[str, artwork.StoredArtwork] = {}
        for row in stored.take(pa.array(of_label)).to_pylist():
            image = artwork.StoredArtwork(
                row["post_id"], row["segment"], row["offset"], row["file_bytes"], row["sha256"]
            )
            by_file.setdefault(row["sha256"], image)
        by_label[label] = tuple(by_file.values())
    labels = [
        artwork.LabelImages(of_label, data_dir / "download" / "segments", params.artwork_inliers)
        for _, of_label in sorted(by_label.items(), key=lambda item: (-len(item[1]), item[0]))
    ]
    pairs = workers.mapped(
        artwork.pairs_of_label,
        labels,
        engine=engine,
        workers=params.workers,
        stage="duplicates",
        shared_dir=data_dir,
    )
    links: list[Link] = []
    with Progress("duplicates, labels", len(labels)) as progress:
        for pairs_of_label in pairs:
            links += [
                Link(
                    pair.post_a,
                    pair.post_b,
                    "near" if _is_copy(pair, params) else "artwork",
                    difference=pair.difference,
                    inliers=pair.inliers,
                    mirrored=pair.mirrored,
                )
                for pair in pairs_of_label
            ]
            progress.advance(text=f"{len(links)} pairs of one drawing")
    return links


def _is_copy(pair: artwork.ArtworkPair, params: Params) -> bool:
    """Returns whether two images of one drawing are one image: cropped, framed, turned, recoloured."""
    return pair.difference <= params.copy_difference and pair.overlap >= params.copy_overlap


def _table(links: Iterable[Link]) -> pa.Table:
    rows_of_links = [
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
    return pa.Table.from_pylist(rows_of_links, schema=LINKS)


def _of_kind(kind: str, ends: Ids) -> pa.Table:
    """Returns links of one kind between pairs of ids, the smaller first, `[links, 2]`."""
    known = {"post_a": ends[:, 0], "post_b": ends[:, 1], "link": pa.repeat(kind, len(ends))}
    unknown = {
        field.name: pa.nulls(len(ends), field.type) for field in LINKS if field.name not in known
    }
    return pa.table(known | unknown, schema=LINKS)


def _ends(links: pa.Table) -> Ids:
    return np.stack([links["post_a"].to_numpy(), links["post_b"].to_numpy()], axis=1)


def _codes(posts: Ids, links: pa.Table) -> Ids:
    """Returns a number for the two posts of each link."""
    first, second = np.searchsorted(posts, _ends(links)).T
    return np.asarray(first * len(posts) + second, np.int64)


def _ordered(links: pa.Table) -> pa.Table:
    """Returns the links by posts, then strongest first; two rules may give the same link."""
    kind = pc.index_in(links["link"], pa.array(REASONS)).to_numpy()
    key = np.stack([*_ends(links).T, kind])
    order = np.lexsort(key[::-1])
    key = key[:, order]
    is_same = np.zeros(links.num_rows, np.bool_)
    is_same[1:] = (key[:, 1:] == key[:, :-1]).all(axis=0)
    # Two images may be near as they are and mirrored.
    by_pixels = np.isin(key[2], [list(REASONS).index(name) for name in ("near", "artwork")])
    return links.take(pa.array(order[~is_same | by_pixels])).combine_chunks()


@dataclass(frozen=True, slots=True)
class _Kinds:
    """The kinds of links of each post."""

    present: npt.NDArray[np.bool_]
    """Whether a post has links of a kind, `[posts, kinds]`, in the order of `REASONS`."""
    near_bits: npt.NDArray[np.int32]
    """Smallest distance of the links `near` of a post, `[posts]`; 257 without any."""

    def strongest(self, shown: npt.NDArray[np.bool_]) -> dict[str, pa.Array]:
        """Returns the strongest link of each post and its distance; null where `shown` is false."""
        names = pa.array([*REASONS, None], pa.string())
        kind = np.where(shown, self.present.argmax(axis=1), len(REASONS))
        hidden = ~shown | (self.near_bits == _NO_BITS)
        return {
            "link": names.take(pa.array(kind)),
            "distance": pa.array(self.near_bits, mask=hidden),
        }


def _kinds(posts: Ids, links: pa.Table) -> _Kinds:
    present = np.zeros((len(posts), len(REASONS)), np.bool_)
    near_bits = np.full(len(posts), _NO_BITS, np.int32)
    kind = pc.index_in(links["link"], pa.array(REASONS)).to_numpy()
    distance = pc.fill_null(links["distance"], _NO_BITS).to_numpy()
    for ends in np.searchsorted(posts, _ends(links)).T:
        present[ends, kind] = True
        np.minimum.at(near_bits, ends, distance)
    return _Kinds(present, near_bits)


def _decisions(
    posts: Ids, is_kept: npt.NDArray[np.bool_], kinds: _Kinds, params: Params
) -> pa.Table:
    """Returns one row per kept post, and for a refused post one row per kind of its links."""
    row, kind = np.nonzero(kinds.present & ~is_kept[:, None])
    row = np.concatenate([np.flatnonzero(is_kept), row])
    kind = np.concatenate([np.full(is_kept.sum(), len(REASONS)), kind])
    order = np.lexsort([kind, row])
    row, kind = row[order], kind[order]
    bits = kinds.near_bits[row].astype(np.float64)
    is_compared = (kind == list(REASONS).index("near")) & (bits != _NO_BITS)
    return decisions.table(
        "duplicates",
        posts[row],
        pa.array([*REASONS.values(), None], pa.string()).take(pa.array(kind)),
        measured=pa.array(bits, mask=~is_compared),
        threshold=pa.array(np.full(len(row), float(params.distance)), mask=~is_compared),
    )
