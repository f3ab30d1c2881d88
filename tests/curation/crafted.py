"""
Crafted data sets: over 200 ways in which shards, manifest and table of a data set can lie.

Each takes the folder of sound shards and changes it.
"""

import tarfile

import pyarrow as pa

from tests.curation.crafting import (
    BLOCK,
    SHARD,
    Craft,
    added,
    before_first,
    column,
    content,
    cut,
    encoded,
    first,
    flipped,
    giant,
    header,
    image,
    large_text,
    linked,
    lying,
    manifest,
    member,
    members,
    pax,
    pipe,
    raw_header,
    replaced,
    replaced_text,
    shard_twice,
    table,
    written,
)

DEEP = "[" * 100_000
HALF_DEEP = "[" * 960 + "]" * 960
HUGE = "9" * 4000
_LINKS = {
    f"{kind} to {target or 'nothing'}": replaced(
        ".png",
        lambda name, _, kind=code, target=target: member(name, kind=kind, linkname=target),
    )
    for kind, code in (("symlink", tarfile.SYMTYPE), ("hard link", tarfile.LNKTYPE))
    for target in ("/etc/passwd", "../../../etc/passwd", "", "manifest.json")
}
_KINDS = {
    f"member of type {kind!r}": header(type=kind)
    for kind in (b"3", b"4", b"5", b"6", b"7", b"S", b"x", b"g", b"L", b"K", b"Z")
}
_NAMES = {
    f"member named {name[:20]!r}": replaced(".png", lambda _, data, name=name: member(name, data))
    for name in (
        "/tmp/crafted.png",
        "../crafted.png",
        "../../../../tmp/crafted.png",
        "a/b.png",
        "..",
        ".",
        ".png",
        "",
        "x",
        "con.png",
        "a\nb.png",
        "a\x1b[2Jb.png",
        "é.png",
        "\\\\host\\x.png",
        "x" * 99,
        "x" * 300 + ".png",
        "./1000.png",
        "-rf.png",
    )
}
_SIZES = {
    f"header claims {size} bytes": header(size=size)
    for size in (0, 1, 2**20, 2**31, 2**33, 2**40, 2**62, 2**80)
}
_PAX = {
    "PAX size": pax(size="99999999999"),
    "PAX negative size": pax(size="-5"),
    "PAX size no number": pax(size="five"),
    "PAX path": pax(path="../../crafted.png"),
    "PAX absolute path": pax(path="/tmp/crafted.png"),
    "PAX link": pax(linkpath="/etc/passwd"),
    "PAX sparse": pax(**{"GNU.sparse.map": "0,1", "GNU.sparse.size": str(2**40)}),
    "PAX sparse name": pax(**{"GNU.sparse.name": "../x", "GNU.sparse.realsize": "1"}),
    "PAX mtime": pax(mtime="1e999"),
    "PAX charset": pax(hdrcharset="BINARY", path="\udcff.png"),
    "PAX record": before_first(member("x", b"99999999 path=x\n", tarfile.XHDTYPE)),
    "global PAX size": before_first(member("x", b"18 size=4294967296\n"[:18], tarfile.XGLTYPE)),
    "long name": before_first(member("././@LongLink", b"a/../../x\0", tarfile.GNUTYPE_LONGNAME)),
    "long link": before_first(member("././@LongLink", b"/etc/passwd\0", tarfile.GNUTYPE_LONGLINK)),
    "chain of long names": before_first(lying(tarfile.GNUTYPE_LONGNAME, 0) * 3000),
    "long name of a terabyte": before_first(lying(tarfile.GNUTYPE_LONGNAME, 2**40)),
}
_HEADERS = {
    "octal no number": raw_header(124, b"zzzzzzzzzzz\0"),
    "negative size in base 256": raw_header(124, b"\xff" * 12),
    "largest size in base 256": raw_header(124, b"\x80" + b"\xff" * 11),
    "name without end": raw_header(0, b"x" * 100),
    "prefix of another folder": raw_header(345, b"../../.."),
    "another magic": raw_header(257, b"xxxxxxxx"),
    "link name in a file": raw_header(157, b"/etc/passwd"),
}
_STRUCTURE = {
    "empty shard": written(SHARD, b""),
    "no tar": written(SHARD, b"no tar at all" * 10_000),
    "zeros": written(SHARD, bytes(100_000)),
    "cut at 10 %": cut(0.1),
    "cut at 50 %": cut(0.5),
    "cut in the end": cut(0.999),
    "member twice": replaced(".png", lambda name, data: member(name, data) * 2),
    "sample twice": lambda folder: added(
        b"".join(member(name, data) for name, data in members(folder)[:3])
    )(folder),
    "sample added": added(member("9.png", b"x") + member("9.cls", b"0") + member("9.json", b"{}")),
    "member added": added(member("9.txt", b"x")),
    "member removed": replaced(".cls", lambda _name, _data: b""),
    "image removed": replaced(".png", lambda _name, _data: b""),
    "program added": added(member("9.py", b"import os")),
    "pickle added": added(member("9.pyd", b"\x80\x04.")),
    "header before": before_first(bytes(BLOCK)),
    "bytes before": before_first(b"x" * 100),
    "shard is a link to a folder": linked(SHARD, "/tmp"),
    "shard is a link to a device": linked(SHARD, "/dev/zero"),
    "shard is a dangling link": linked(SHARD, "absent"),
    "shard is a pipe": pipe(SHARD),
}
_IMAGES = {
    "image empty": content(".png", b""),
    "image no image": content(".png", b"<html>404</html>"),
    "image GIF": image(lambda picture: encoded(picture, "GIF")),
    "image TIFF": image(lambda picture: encoded(picture, "TIFF")),
    "image EPS": content(".png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 48 48\n"),
    "image cut": image(lambda picture: encoded(picture)[:-60]),
    "image of another size": image(lambda picture: encoded(picture.resize((47, 48)))),
    "image of four billion pixels": image(giant),
    "image with a text bomb": image(lambda picture: encoded(picture, pnginfo=large_text())),
    "image damaged inside": image(
        lambda picture: encoded(picture)[:60] + bytes(40) + encoded(picture)[100:]
    ),
}
_LABELS = {
    f".cls is {text[:12]!r}": content(".cls", text)
    for text in (b"", b"-1", b"99", b"x", b"\xff", b"1e999", b"9" * 5000, b"1.5", b"\0", b"0x1")
}
_RECORDS = {
    f".json is {text[:24]!r}": content(".json", text)
    for text in (
        b"",
        b"[]",
        b"5",
        b"null",
        b'"x"',
        b"{}",
        b"{",
        b"\xff\xfe",
        DEEP.encode(),
        b'{"post_id": 1e999, "white_background": true}',
        b'{"post_id": NaN, "white_background": true}',
        b'{"post_id": "1000", "white_background": true}',
        b'{"post_id": 1000, "white_background": "maybe"}',
        b'{"post_id": [1], "white_background": true}',
        b'{"post_id": ' + b"9" * 5000 + b', "white_background": true}',
        b'{"post_id": 123456789012345678901234567890, "white_background": true}',
    )
}
_MANIFESTS = {
    "manifest names ../x": manifest("shards", 0, "shard", value="../train-000000.tar"),
    "manifest names an absolute path": manifest("shards", 0, "shard", value="/etc/passwd"),
    "manifest names a folder": manifest("shards", 0, "shard", value="."),
    "manifest names nothing": manifest("shards", 0, "shard", value=""),
    "manifest name with zero": manifest("shards", 0, "shard", value="a\0b.tar"),
    "manifest names a shard twice": shard_twice,
    "manifest side of a billion": manifest("image", "side", value=10**9),
    "manifest side 65,536": manifest("image", "side", value=65_536),
    "manifest side 0": manifest("image", "side", value=0),
    "manifest side in words": manifest("image", "side", value="48"),
    "manifest side 48.5": manifest("image", "side", value=48.5),
    "manifest format": manifest("image", "format", value=5),
    "manifest samples of a shard": manifest("shards", -1, "samples", value=10**12),
    "manifest samples of a shard beyond 64 bits": manifest("shards", -1, "samples", value=10**30),
    "manifest samples below zero": manifest("shards", -1, "samples", value=-1),
    "manifest bytes of a shard": manifest("shards", -1, "bytes", value=5),
    "manifest counts as text": manifest("samples", value={"train": "many"}),
    "manifest counts as a list": manifest("samples", value=[1, 2, 3]),
    "manifest hash in capitals": manifest("shards", -1, "sha256", value="A" * 64),
    "manifest root no hash": manifest("root_sha256", value=5),
    "manifest shards a mapping": manifest("shards", value={}),
    "manifest shards null": manifest("shards", value=None),
    "manifest labels a list": manifest("labels", value=["a"]),
    "manifest version 2": manifest("version", value=2),
    "manifest versions nested": manifest("versions", value={"a": {"b": 1}}),
    "manifest image null": manifest("image", value=None),
    "manifest with a field more": manifest("exec", value="rm"),
    "manifest a list": written("manifest.json", "[]"),
    "manifest a number": written("manifest.json", "1e999"),
    "manifest null": written("manifest.json", "null"),
    "manifest empty": written("manifest.json", ""),
    "manifest deep": written("manifest.json", DEEP),
    "manifest deep inside": replaced_text(
        "manifest.json", '"shards"', f'"a": {HALF_DEEP}, "shards"'
    ),
    "manifest infinite": replaced_text("manifest.json", '"labels": ', '"labels": 1e999, "x": '),
    "manifest NaN": replaced_text("manifest.json", '"labels": ', '"labels": NaN, "x": '),
    "manifest huge number": replaced_text(
        "manifest.json", '"labels": ', f'"labels": {HUGE}, "x": '
    ),
    "manifest no UTF-8": written("manifest.json", b'{"a": "\xff"}'),
    "manifest lone surrogate": replaced_text(
        "manifest.json", '"versions": {', '"versions": {"a": "\\ud800", '
    ),
    "manifest absent": lambda folder: (folder / "manifest.json").unlink(),
    "classes a list": written("classes.json", "[]"),
    "classes deep": written("classes.json", DEEP),
    "classes empty": written("classes.json", '{"labels": []}'),
    "classes of numbers": written("classes.json", '{"labels": [1, 2, 3, 4]}'),
    "classes of one label": written("classes.json", '{"labels": ["amber"]}'),
    "classes without labels": written("classes.json", "{}"),
}
_TABLES = {
    "table no Parquet": written("samples.parquet", b"PAR1"),
    "table without rows": table(lambda rows: rows.slice(0, 0)),
    "table of half the rows": table(lambda rows: rows.slice(0, len(rows) // 2)),
    "table of twice the rows": table(lambda rows: pa.concat_tables([rows, rows])),
    "table of a million equal rows": table(
        lambda rows: rows.take(pa.array([0] * 1_000_000, pa.int32()))
    ),
    "table without a column": table(lambda rows: rows.drop_columns(["image_offset"])),
    "table with a column twice": table(
        lambda rows: rows.append_column("image_offset", rows["image_offset"])
    ),
    "offset as text": column(
        "image_offset", lambda values: [str(value) for value in values], pa.string()
    ),
    "offset as a fraction": column(
        "image_offset", lambda values: [value + 0.5 for value in values], pa.float64()
    ),
    "offset empty": column("image_offset", first(None)),
    "offset below zero": column("image_offset", first(-512)),
    "offset beyond the end": column("image_offset", first(2**40)),
    "largest offset": column("image_offset", first(2**63 - 1)),
    "size empty": column("image_bytes", first(None)),
    "size below zero": column("image_bytes", first(-1)),
    "size of a terabyte": column("image_bytes", first(2**40)),
    "largest size": column("image_bytes", first(2**63 - 1)),
    "leaf as text": column("leaf", lambda values: [str(value) for value in values], pa.string()),
    "leaf empty": column("leaf", first(None)),
    "leaf out of range": column("leaf", first(10**6)),
    "post id as text": column(
        "post_id", lambda values: [str(value) for value in values], pa.string()
    ),
    "post id empty": column("post_id", first(None)),
    "shard elsewhere": column("shard", first("../train-000000.tar")),
    "shard absolute": column("shard", first("/etc/passwd")),
    "shard empty": column("shard", first(None)),
    "shard as bytes": column(
        "shard", lambda values: [value.encode() for value in values], pa.binary()
    ),
    "white as a number": column(
        "white_background", lambda values: list(map(int, values)), pa.int64()
    ),
}
CRAFTED: dict[str, Craft] = (
    _LINKS
    | _KINDS
    | _NAMES
    | _SIZES
    | _PAX
    | _HEADERS
    | _STRUCTURE
    | _IMAGES
    | _LABELS
    | _RECORDS
    | _MANIFESTS
    | _TABLES
    | {f"flipped bit {number}": flipped(number) for number in range(20)}
)
"""Each way by its name."""
