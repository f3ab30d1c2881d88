"""
One sample's image, read out of its shard by offset.

Shards may come from other people, so nothing that they or samples.parquet say is taken for a path:
every name, offset and size is checked before it is used.
"""

import hashlib
import os
import re
import tarfile
from collections.abc import Callable, Collection
from contextlib import closing
from pathlib import Path, PurePath
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from curation import tars
from curation.documents import SHARD_NAME, ManifestDocument
from curation.errors import TamperedData
from personae import container, tables
from personae.errors import BadParams, MissingInput, PersonaeError
from personae.text import is_utf8

COLUMNS = pa.schema(
    {
        "post_id": pa.int64(),
        "shard": pa.string(),
        "offset": pa.int64(),
        "image_offset": pa.int64(),
        "image_bytes": pa.int64(),
    }
)
_LISTED = ("post_id", "variants")
_ORIGINALS = "SELECT post_id::BIGINT FROM posts WHERE original_url IN (SELECT unnest(?))"
_LISTING = Path("listing", "posts.parquet")
_KEY = re.compile(r"(\d{1,19})(\.(png|jpg|webp|cls|json))?")
_EXTENSIONS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}


def post_id_of(data_dir: Path, key: str) -> int:
    """
    Returns the post of a key: a post id, a member of a shard such as `1234.png`, or the path or
    address of the original file, as the listing has it. A path may begin with more folders.

    Raises:
        MissingInput: No post has this original, or both catalog and listing are absent.
        BadParams: The originals of several posts fit.
    """
    number = _KEY.fullmatch(key)
    if number:
        return int(number[1])
    parts = PurePath(key).parts
    tails = ["/".join(parts[start:]) for start in range(len(parts))]
    tiles = [tail.rpartition("#") for tail in tails]
    addresses = {key} | {f"folder:{quote(os.fsencode(tail))}" for tail in tails}
    addresses |= {f"folder:{quote(os.fsencode(file))}#{tile}" for file, _, tile in tiles}
    addresses = set(filter(is_utf8, addresses))
    posts = _in_catalog(data_dir, addresses)
    # The listing also has the smaller files of a post. A copied build has the catalog alone.
    if not posts and (posts is None or (data_dir / _LISTING).exists()):
        posts = _in_listing(data_dir, addresses)
    if not posts:
        raise MissingInput(
            f"No listed post has the key or the original file {key!r}. The catalog has the original of "
            'every listed post, in original_url:\n  python -m curation query "FROM posts" --csv'
        )
    if len(posts) > 1:
        raise BadParams(
            f"{key!r} fits the originals of the posts {', '.join(map(str, sorted(posts)))}. Give the "
            "whole path, or one of these numbers."
        )
    return posts.pop()


def _in_catalog(data_dir: Path, addresses: Collection[str]) -> set[int] | None:
    """Returns the posts of these originals; None where the catalog is absent, damaged or in use."""
    from personae import catalog  # slow to import, and not needed for a post id

    path = data_dir / "catalog" / "catalog.duckdb"
    try:
        with (
            closing(catalog.connect(path)) as connection,
            catalog.sandboxed(connection, _ORIGINALS),
        ):
            return {post for (post,) in connection.execute(_ORIGINALS, [[*addresses]]).fetchall()}
    except PersonaeError:  # the listing has them all
        return None


def _in_listing(data_dir: Path, addresses: Collection[str]) -> set[int]:
    """Returns the posts of these files; reads the whole listing, 1.5 s for a million posts."""
    known = pa.array(sorted(addresses), pa.string())
    posts: set[int] = set()
    for batch in tables.batches(data_dir / _LISTING, _LISTED, stage="listing"):
        variants = batch["variants"]
        urls = pc.struct_field(pc.list_flatten(variants), "url")
        rows = pc.list_parent_indices(variants).filter(pc.is_in(urls, known))
        posts.update(batch["post_id"].take(rows).to_pylist())
    return posts


def stored_bytes(
    data_dir: Path, post_id: int, *, fetch: Callable[[str], Path] | None = None
) -> bytes:
    """
    Returns the image of one sample as it is stored in its shard.

    `fetch` gets the path of the shard below `data_dir`, and puts the shard there.

    Raises:
        MissingInput: No sample has this id, or a file of stage `shards` is absent.
        TamperedData: The shard does not have the sha256 of the manifest, or shard and
            samples.parquet disagree on the image.
    """
    folder = data_dir / "shards"
    rows = tables.rows_with(folder / "samples.parquet", COLUMNS, post_id, stage="shards")
    if not rows:
        raise MissingInput(
            f"No sample has the key {post_id}. The view `journey` shows what became of the post:\n"
            f'  python -m curation query "FROM journey WHERE post_id = {post_id}"'
        )
    if len(rows) > 1:
        raise _tampered(post_id, f"samples.parquet has {len(rows)} rows of it")
    shard, offset, image_offset, size = (rows[0][name] for name in COLUMNS.names[1:])
    if shard is None or not SHARD_NAME.fullmatch(shard):
        raise _tampered(post_id, f"{shard!r} is not the name of a shard")
    numbers = [number for number in (offset, image_offset, size) if number is not None]
    if len(numbers) < 3 or min(numbers) < 0 or image_offset != offset + tars.BLOCK:
        raise _tampered(post_id, f"offset {offset} and size {size} are impossible")
    path = folder / shard
    if fetch is not None:
        fetch(f"shards/{shard}")
    _check_shard(path, ManifestDocument.read(folder / "manifest.json"), post_id)
    with path.open("rb") as file:
        file.seek(offset)
        header = file.read(tars.BLOCK)
        data = file.read(size) if image_offset + size <= path.stat().st_size else b""
    try:
        member = tarfile.TarInfo.frombuf(header, "ascii", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError) as error:
        raise _tampered(post_id, f"no tar header at byte {offset} of {shard}: {error}") from error
    names = [f"{post_id}.{extension}" for extension in _EXTENSIONS.values()]
    if not member.isreg() or member.name not in names or member.size != size:
        raise _tampered(
            post_id,
            f"the member at byte {offset} of {shard} is {member.name!r} with {member.size} bytes, "
            f"not the image with {size} bytes",
        )
    if len(data) != size:
        raise _tampered(post_id, f"{shard} ends before byte {image_offset + size}")
    return data


def extension_of(data: bytes, post_id: int) -> str:
    """
    Returns png, webp or jpg by the first bytes of an image.

    Raises:
        TamperedData: The bytes are of none of the three formats.
    """
    kind = container.signature(data[: container.SIGNATURE_BYTES])
    if kind is None:
        raise _tampered(post_id, "the stored bytes are no PNG, WebP or JPEG image")
    return _EXTENSIONS[kind]


def _check_shard(path: Path, manifest: ManifestDocument, post_id: int) -> None:
    listed = {entry.shard: entry.sha256 for entry in manifest.shards}
    if path.name not in listed:
        raise _tampered(post_id, f"manifest.json does not list {path.name}")
    try:
        if not path.is_file():  # a device has no end, and a pipe waits for its writer
            raise _tampered(post_id, f"{path.name} is absent or no regular file")
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MissingInput(
            f"{path} cannot be opened: {error.strerror}. Stage 'shards' writes it: run that stage "
            "again."
        ) from error
    if sha256 != listed[path.name]:
        raise _tampered(post_id, f"{path.name} does not have the sha256 that manifest.json records")


def _tampered(post_id: int, reason: str) -> TamperedData:
    return TamperedData(
        f"The image of sample {post_id} cannot be trusted: {reason}. The data set was damaged or "
        "changed. Run stage 'shards' again, or get the data set again from where it came."
    )
