"""
Stage `duplicates`: groups of posts that show the same image; one post of a group survives, or
all do and the groups are only reported.

Reads what `filters` kept, the measures, the normalised images and the posts. Five rules link two
posts: the same file (`exact`), the same pixels by the board's own hash (`pixel_hash`), a near
perceptual hash confirmed on the pixels (`near`), parent and child (`family`), the same source URL
(`source`). Writes groups, decisions, every link, and the pairs that the pixels told apart.
"""

import hashlib
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from curation import image as pictures
from curation.decisions import DECISIONS
from curation.errors import TamperedData
from curation.hamming import near_pairs
from personae import tables
from personae.errors import MissingInput

log = logging.getLogger(__name__)

# Kinds of links, strongest first, and the reason that a refused post gets for each.
REASONS = {
    "exact": "exact_duplicate",
    "pixel_hash": "pixel_duplicate",
    "near": "near_duplicate",
    "family": "family_duplicate",
    "source": "same_source",
}
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
    }
)


class Params(BaseModel):
    """Section `duplicates`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    distance: int = Field(
        31,
        ge=0,
        le=31,
        description="largest distance of near duplicates, of 256 bits; 31 is what the authors of "
        "PDQ publish. No pair across families of 7,256 illustrations lies under 40",
    )
    max_difference: float = Field(
        0.3,
        ge=0,
        le=2,
        description="largest difference of the pixels, one minus their correlation at 32 × 32; "
        "of 400 copies cut by 2 % a side all lie under 0.15, recoloured twins reach 0.26",
    )
    keep: Literal["one", "all"] = Field(
        "one",
        description="`one` post of a group goes on; `all` only reports, for a set that is compared "
        "as it was published",
    )
    families: bool = Field(True, description="parents and children count as one image")
    source_posts: int = Field(
        8,
        ge=0,
        description="how many posts of one source URL, by id, count as one image; those after "
        "them stay unlinked, as a gallery's do. 0 ignores sources",
    )


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the stage knows of one post; None where the board or the measures are silent."""

    post_id: int
    sha256: str
    md5: str | None
    pixel_hash: str | None
    parent_id: int | None
    source: str
    score: int
    pixels: int
    """Of the original file, as the board lists it."""


@dataclass(frozen=True, slots=True)
class Link:
    """Two posts of one image, the smaller id first."""

    post_a: int
    post_b: int
    kind: str
    distance: int | None = None
    """Bits that differ, for `near` alone."""
    difference: float | None = None
    """One minus correlation of the pixels, for `near` alone."""


def same_key(posts: Iterable[Candidate], kind: str, key: Callable[[Candidate], Any]) -> list[Link]:
    """Links every post to the smallest id that shares its key; a key of None links nothing."""
    holders: dict[Any, list[int]] = defaultdict(list)
    for post in posts:
        if key(post) is not None:
            holders[key(post)].append(post.post_id)
    return [
        Link(min(ids), other, kind)
        for ids in holders.values()
        for other in sorted(set(ids) - {min(ids)})
    ]


def family_links(posts: Sequence[Candidate]) -> list[Link]:
    """
    Links a child to its parent, and to its siblings whether or not the parent is among the posts.

    A parent that comes after its children therefore takes no link away from them.
    """
    known = {post.post_id for post in posts}
    children = [post for post in posts if post.parent_id not in (None, post.post_id)]
    links = [
        Link(min(parent, post.post_id), max(parent, post.post_id), "family")
        for post in children
        if (parent := post.parent_id) in known and parent is not None
    ]
    return links + same_key(children, "family", lambda post: post.parent_id)


def source_links(posts: Sequence[Candidate], most: int) -> list[Link]:
    """
    Links the first `most` posts, by id, of one source URL; a gallery's later posts stay unlinked.

    So a post that comes later takes no link away from those before it.
    """
    holders: dict[str, list[Candidate]] = defaultdict(list)
    for post in sorted(posts, key=lambda post: post.post_id):
        if url := picture_url(post.source):
            holders[url].append(post)
    first = [post for named in holders.values() for post in named[:most]]
    return same_key(first, "source", lambda post: picture_url(post.source))


def picture_url(source: str) -> str | None:
    """Returns a source that can name one image: a web address with more than a host, else None."""
    try:
        parts = urlsplit(source.strip())
    except ValueError:  # an unclosed bracket, say: people type anything into a source field
        return None
    named = parts.scheme in ("http", "https") and (parts.path.strip("/") or parts.query)
    return source.strip() if named else None


def groups_of(posts: Iterable[int], links: Iterable[Link]) -> dict[int, int]:
    """Returns the smallest post id that each post is linked to, over any number of links."""
    root = {post: post for post in posts}

    def top(post: int) -> int:
        while root[post] != post:
            root[post] = root[root[post]]
            post = root[post]
        return post

    for link in links:
        one, two = top(link.post_a), top(link.post_b)
        root[max(one, two)] = min(one, two)
    return {post: top(post) for post in root}


def survivor(posts: Iterable[Candidate]) -> int:
    """Returns the post to keep: no parent, then more pixels, a higher score, the smaller id."""
    return min(
        posts,
        key=lambda post: (post.parent_id is not None, -post.pixels, -post.score, post.post_id),
    ).post_id


def run(params: Params, *, data_dir: Path) -> None:
    """
    Groups what `filters` kept, and keeps one post of each group, or all of them.

    Raises:
        MissingInput, MissingColumn: A table or tar of an earlier stage is absent or incomplete.
        TamperedData: A normalised image does not have its recorded sha256.
    """
    posts, measures = _read(data_dir)
    links = same_key(posts, "exact", lambda post: post.sha256)
    links += same_key(posts, "exact", lambda post: post.md5)
    links += same_key(posts, "pixel_hash", lambda post: post.pixel_hash)
    near, apart = _near(params, posts, measures, data_dir / "measure")
    links += near
    links += family_links(posts) if params.families else []
    links += source_links(posts, params.source_posts)
    links = sorted(set(links), key=_order)
    group_of = groups_of((post.post_id for post in posts), links)
    members: dict[int, list[Candidate]] = defaultdict(list)
    for post in posts:
        members[group_of[post.post_id]].append(post)
    chosen = {survivor(group) for group in members.values()}
    kept = chosen if params.keep == "one" else set(group_of)
    groups = _groups(links, group_of, chosen)
    decisions = _decisions(links, group_of, kept, params.distance)
    out = data_dir / "duplicates"
    metadata = {"personae.params": params.model_dump_json()}
    tables.write(out / "links.parquet", _pairs(links))
    tables.write(out / "apart.parquet", _pairs(apart))
    tables.write(out / "decisions.parquet", decisions)
    tables.write(out / "groups.parquet", groups.replace_schema_metadata(metadata))
    kinds = Counter(link.kind for link in links)
    log.info(
        "duplicates: %d of %d posts kept, %d groups, largest %d; links: %s; told apart by pixels: "
        "%d",
        len(kept),
        len(posts),
        len(members),
        max((len(group) for group in members.values()), default=0),
        ", ".join(f"{kind} {kinds[kind]}" for kind in REASONS if kinds[kind]) or "none",
        len(apart),
    )


def _read(data_dir: Path) -> tuple[list[Candidate], dict[int, dict[str, Any]]]:
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
        Candidate(
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
    wanted = np.isin(table["post_id"].to_numpy(), np.asarray(kept, np.int64))
    rows = {row["post_id"]: row for row in table.filter(pa.array(wanted)).to_pylist()}
    if len(rows) != len(kept):
        absent = next(post_id for post_id in kept if post_id not in rows)
        raise MissingInput(
            f"{path} lacks post {absent}, which stage 'filters' kept: the tables come from "
            f"different runs. Run stage '{stage}' and those after it again."
        )
    return rows


def _near(
    params: Params,
    posts: Sequence[Candidate],
    measures: Mapping[int, Mapping[str, Any]],
    measure_dir: Path,
) -> tuple[list[Link], list[Link]]:
    """Returns the near pairs of different files that the pixels confirm, and those they do not."""
    packed = b"".join(measures[post.post_id]["phash"] for post in posts)
    hashes = np.frombuffer(packed, np.uint64).reshape(-1, 4)
    confirmed: list[Link] = []
    apart: list[Link] = []
    with ExitStack() as stack:
        shown = _Thumbnails(measures, measure_dir, stack)
        for first, second, distance in zip(*near_pairs(hashes, params.distance), strict=True):
            one, two = posts[first], posts[second]
            if one.sha256 == two.sha256 or (one.md5 is not None and one.md5 == two.md5):
                continue
            difference = pictures.difference(shown[one.post_id], shown[two.post_id])
            link = Link(one.post_id, two.post_id, "near", int(distance), difference)
            (confirmed if difference <= params.max_difference else apart).append(link)
    return confirmed, apart


class _Thumbnails:
    """The normalised images of the posts asked for, small, each read and decoded once."""

    def __init__(
        self, measures: Mapping[int, Mapping[str, Any]], folder: Path, stack: ExitStack
    ) -> None:
        self._measures = measures
        self._folder = folder
        self._stack = stack
        self._open: dict[str, int] = {}
        self._known: dict[int, pictures.Pixels] = {}

    def __getitem__(self, post_id: int) -> pictures.Pixels:
        if post_id not in self._known:
            row = self._measures[post_id]
            shape = (row["width"], row["height"])
            self._known[post_id] = pictures.thumbnail(self._bytes(post_id), shape=shape, side=32)
        return self._known[post_id]

    def _bytes(self, post_id: int) -> bytes:
        row = self._measures[post_id]
        path = self._folder / row["image_tar"]
        if path.name not in self._open:
            try:
                self._open[path.name] = os.open(path, os.O_RDONLY)
            except OSError as error:
                raise MissingInput(
                    f"{path} cannot be opened: {error.strerror}. Run stage 'measure' again."
                ) from error
            self._stack.callback(os.close, self._open[path.name])
        data = os.pread(self._open[path.name], row["image_bytes"], row["offset"])
        if hashlib.sha256(data).hexdigest() != row["image_sha256"]:
            raise TamperedData(
                f"The image of post {post_id} at byte {row['offset']} of {path.name} does not "
                "have the sha256 that measures.parquet records. Run stage 'measure' again."
            )
        return data


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
        }
        for link in links
    ]
    return pa.Table.from_pylist(rows, schema=LINKS)


def _kinds(links: Iterable[Link]) -> dict[int, dict[str, int | None]]:
    """Kinds of links that each post has, with the smallest distance where a kind has one."""
    kinds: dict[int, dict[str, int | None]] = defaultdict(dict)
    for link in links:
        for post in (link.post_a, link.post_b):
            known = (kinds[post].get(link.kind), link.distance)
            kinds[post][link.kind] = min((bits for bits in known if bits is not None), default=None)
    return kinds


def _groups(links: Iterable[Link], group_of: Mapping[int, int], chosen: set[int]) -> pa.Table:
    """One row per post; all but the representative of a group say how they joined it."""
    kinds = _kinds(links)
    rows: list[dict[str, Any]] = []
    for post_id, group_id in sorted(group_of.items()):
        row: dict[str, Any] = {"post_id": post_id, "group_id": group_id}
        row["representative"] = post_id in chosen
        if post_id not in chosen:
            joined = next(kind for kind in REASONS if kind in kinds[post_id])
            row |= {"link": joined, "distance": kinds[post_id].get("near")}
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=GROUPS)


def _decisions(
    links: Iterable[Link], group_of: Mapping[int, int], kept: set[int], distance: int
) -> pa.Table:
    """One row per kept post; a refused one has a row for every kind of link it has."""
    kinds = _kinds(links)
    rows: list[dict[str, Any]] = []
    for post_id in sorted(group_of):
        row = {"post_id": post_id, "stage": "duplicates", "kept": post_id in kept}
        if post_id in kept:
            rows.append(row)
            continue
        for kind in [kind for kind in REASONS if kind in kinds[post_id]]:
            bits = kinds[post_id][kind]
            compared = {"measured": bits, "threshold": distance} if kind == "near" else {}
            rows.append(row | {"reason": REASONS[kind]} | compared)
    return pa.Table.from_pylist(rows, schema=DECISIONS)
