"""
Hostile images by name: cut, flipped, bombs, rare modes, damaged metadata, other formats, two in one.

Equal on every run. Most are refused; some are odd but sound, and must be decoded.
"""

import gzip
import io
import random
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin

CUTS, FLIPS = 50, 20
FORMATS: Mapping[str, Mapping[str, Any]] = {
    "JPEG": {"quality": 90},
    "PNG": {},
    "WEBP": {"lossless": True},
}
_HTML = b"<!DOCTYPE html><html><script>alert(1)</script><body>502 Bad Gateway</body></html>"


def drawing(mode: str = "RGB", *, side: int = 64, seed: int = 0) -> Image.Image:
    """Returns noise on a gradient, as an image of `mode`."""
    noise = np.random.default_rng(seed).integers(0, 90, (side, side, 3))
    ramp = np.linspace(0, 160, side).astype(int)[:, None, None]
    return Image.fromarray((noise + ramp).astype(np.uint8)).convert(mode)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Returns the bytes of an image in a format of Pillow."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, body: bytes, *, checksum: int | None = None) -> bytes:
    """Returns a chunk of PNG; its checksum may be wrong."""
    right = zlib.crc32(name + body)
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum or right)


def png(
    width: int, height: int, *, depth: int = 8, colour: int = 2, rows: bytes | None = None
) -> bytes:
    """Returns a PNG file; its pixels are absent, or the given rows."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IDAT", b"" if rows is None else zlib.compress(rows, 9))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")


def with_chunks(*chunks: bytes) -> bytes:
    """Returns a sound PNG file with further chunks behind its header."""
    data = saved(drawing(), "PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def images() -> dict[str, bytes]:
    """Returns all hostile images by name."""
    return {f"{kind}: {name}": data for kind, build in _KINDS.items() for name, data in build()}


def _cut() -> Iterator[tuple[str, bytes]]:
    for kind, options in FORMATS.items():
        data = saved(drawing(), kind, **options)
        for number in range(CUTS):
            length = 1 + number * (len(data) - 2) // CUTS
            yield f"{kind} after {length} of {len(data)} bytes", data[:length]


def _flipped() -> Iterator[tuple[str, bytes]]:
    for kind, options in FORMATS.items():
        for number in range(FLIPS):
            chance = random.Random(number)  # noqa: S311  # positions, not secrets
            data = bytearray(saved(drawing(seed=number), kind, **options))
            # Half of the bits in the headers, where a reader has most to lose.
            position = chance.randrange(200 if number % 2 else len(data))
            data[position] ^= 1 << chance.randrange(8)
            yield f"{kind}, a bit of byte {position}", bytes(data)


def _checksums() -> Iterator[tuple[str, bytes]]:
    data = saved(drawing(), "PNG")
    for name in (b"IHDR", b"IDAT", b"IEND"):
        wrong = bytearray(data)
        start = data.index(name)
        end = start + 4 + int.from_bytes(data[start - 4 : start], "big")
        wrong[end] ^= 1
        yield f"{name.decode()}", bytes(wrong)
    for name in (b"tEXt", b"iCCP", b"eXIf", b"zzzz"):
        yield f"{name.decode()}", with_chunks(chunk(name, b"x\0x", checksum=5))


def _bombs() -> Iterator[tuple[str, bytes]]:
    yield "65,535 × 65,535 pixels", png(65_535, 65_535)
    yield "2,147,483,647 × 2,147,483,647 pixels", png(2**31 - 1, 2**31 - 1)
    yield "200 million pixels", png(20_000, 10_000, rows=bytes(60_010_000 * 10))
    yield (
        "49 million pixels of one bit",
        png(7_000, 7_000, depth=1, colour=0, rows=bytes(876 * 7_000)),
    )
    yield "39 million pixels of RGBA", png(6_245, 6_245, colour=6, rows=bytes(24_981 * 6_245))
    yield (
        "39 million pixels of 64 bits",
        png(6_245, 6_245, depth=16, colour=6, rows=bytes(49_961 * 6_245)),
    )
    grey = png(6_245, 6_245, depth=16, colour=0, rows=bytes(12_491 * 6_245))
    yield "39 million pixels of 16 bits", grey
    large = Image.new("RGB", (6_245, 6_245), (9, 99, 199))
    yield "39 million pixels of JPEG", saved(large, "JPEG")
    yield "39 million pixels of progressive JPEG", saved(large, "JPEG", progressive=True)
    yield "39 million pixels of CMYK", saved(large.convert("CMYK"), "JPEG")
    yield "39 million pixels of WebP", saved(large, "WEBP", method=0)
    yield "40,000 × 1 pixels", saved(Image.new("RGB", (40_000, 1)), "PNG")
    yield "1 × 40,000 pixels", saved(Image.new("RGB", (1, 40_000)), "PNG")
    zeros = zlib.compress(bytes(100 << 20), 9)
    yield "zTXt of 100 MiB", with_chunks(chunk(b"zTXt", b"x\0\0" + zeros))
    yield "iTXt of 100 MiB", with_chunks(chunk(b"iTXt", b"x\0\1\0\0\0" + zeros))
    yield "iCCP of 100 MiB", with_chunks(chunk(b"iCCP", b"x\0\0" + zeros))
    yield "pixels of 100 MiB", png(10, 10, rows=bytes(100 << 20))
    yield "300,000 empty texts", with_chunks(chunk(b"tEXt", b"") * 300_000)
    yield "100,000 empty IDAT", png(4, 4)[:-12] + chunk(b"IDAT", b"") * 100_000
    yield "300 scans", b"\xff\xd8\xff" + b"\xff\xda" * 300 + b"\xff\xd9"
    yield "2,000 scans of a frame", _scans(2_000)
    yield "10,000 frames of GIF", _gif(10_000)
    yield "10,000 frames of APNG", _apng(10_000)
    yield "10,000 frames of WebP", _webp(10_000)
    yield "a billion announced frames", _apng(1, announced=10**9)
    jpeg = saved(drawing(), "JPEG")
    scan = jpeg.index(b"\xff\xda")
    for name, filler in {
        "fill bytes": b"\xff",
        "zeros": b"\0",
        "empty comments": b"\xff\xfe\0\2",
        "empty EXIF": b"\xff\xe1\0\2",
        "restarts": b"\xff\xd0",
        "extensions": b"\xff\xf0",
        "frames": jpeg[jpeg.index(b"\xff\xc0") :][:19],
    }.items():
        yield f"19 MB of {name}", jpeg[:scan] + filler * (19_000_000 // len(filler)) + jpeg[scan:]


def _scans(number: int) -> bytes:
    """Returns a progressive JPEG file whose scans, the last one apart, are repeated."""
    data = saved(drawing(side=400), "JPEG", progressive=True)
    start, end = (data.index(b"\xff\xda", at) for at in (0, data.index(b"\xff\xda") + 2))
    return data[:end] + data[start:end] * number + data[end:]


def _gif(frames: int) -> bytes:
    frame = b"\x21\xf9\x04\0\1\0\0\0" + b"\x2c\0\0\0\0\1\0\1\0\0" + b"\x02\x02\x44\x01\0"
    return b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff" + frame * frames + b"\x3b"


def _apng(frames: int, *, announced: int | None = None) -> bytes:
    first, second = drawing(side=8), drawing(side=8, seed=1)
    data = saved(first, "PNG", save_all=True, append_images=[second])
    start = data.index(b"acTL") - 4
    control = chunk(b"acTL", struct.pack(">II", announced or frames, 0))
    last = data.rindex(b"fcTL") - 4
    frame = data[last:-12]
    return data[:start] + control + data[start + 20 : last] + frame * (frames - 1) + data[-12:]


def _webp(frames: int) -> bytes:
    first, second = drawing(side=8), drawing(side=8, seed=1)
    data = saved(first, "WEBP", save_all=True, append_images=[second])
    frame = data[data.rindex(b"ANMF") :]
    body = data[8:] + frame * (frames - 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _modes() -> Iterator[tuple[str, bytes]]:
    for mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16", "I"):
        image = drawing("L" if mode.startswith("I") else mode.replace("PA", "P"))
        if mode.startswith("I"):
            image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
        options = {"transparency": 3} if mode == "PA" else {}
        yield f"PNG {mode}", saved(image, "PNG", **options)
    for mode in ("L", "CMYK", "YCbCr"):
        yield f"JPEG {mode}", saved(drawing(mode), "JPEG")
    yield (
        "JPEG CMYK of Adobe",
        saved(drawing("CMYK"), "JPEG").replace(
            b"\xff\xd8", b"\xff\xd8\xff\xee\0\x0eAdobe\0d\0\0\0\0\2", 1
        ),
    )
    for depth in (1, 2, 4, 8, 16):
        for colour, samples in ((0, 1), (2, 3), (4, 2), (6, 4)):
            row = 1 + (9 * samples * depth + 7) // 8
            yield (
                f"PNG type {colour}, {depth} bits",
                png(9, 9, depth=depth, colour=colour, rows=bytes(row * 9)),
            )
    palette = saved(drawing("P"), "PNG")
    start = palette.index(b"PLTE") - 4
    length = int.from_bytes(palette[start : start + 4], "big")
    yield "palette absent", palette[:start] + palette[start + 12 + length :]
    yield (
        "palette of 1 colour",
        palette[:start] + chunk(b"PLTE", b"\1\2\3") + palette[start + 12 + length :],
    )
    yield (
        "palette of 257 colours",
        palette[:start] + chunk(b"PLTE", bytes(771)) + palette[start + 12 + length :],
    )
    yield (
        "palette of 2 bytes",
        palette[:start] + chunk(b"PLTE", b"\1\2") + palette[start + 12 + length :],
    )
    yield "interlaced", saved(drawing(), "PNG", interlace=1)
    yield "WebP with alpha", saved(drawing("RGBA"), "WEBP")
    yield "0 × 10 pixels", png(0, 10)
    yield "no pixels", png(10, 10)
    yield "too few rows", png(64, 64, rows=bytes(193 * 30))
    yield "depth 3", png(10, 10, depth=3)
    yield "type 9", png(10, 10, colour=9)


def _profiles() -> Iterator[tuple[str, bytes]]:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    wrong = bytearray(srgb)
    wrong[128:132] = b"\xff\xff\xff\xff"  # the number of tags
    for name, profile in {
        "junk": b"junk" * 100,
        "cut": srgb[:200],
        "zeros": bytes(4096),
        "LAB": lab,
        "of four billion tags": bytes(wrong),
        "a size of 4 GB": b"\xff\xff\xff\xff" + srgb[4:],
        "2 MB": srgb + bytes(2 << 20),
        "grey": srgb[:16] + b"GRAY" + srgb[20:],
        "CMYK": srgb[:16] + b"CMYK" + srgb[20:],
    }.items():
        for kind in ("PNG", "JPEG"):
            yield f"{name} in {kind}", saved(drawing(), kind, icc_profile=profile)


def _metadata() -> Iterator[tuple[str, bytes]]:
    entry = struct.pack("<HHII", 0x0112, 3, 1, 6)
    loop = b"II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 8)
    blocks = {
        "empty": b"",
        "start beyond the end": b"II*\0\xff\xff\xff\xff",
        "60,000 entries": b"MM\0*" + b"\xff" * 60_000,
        "a directory that leads to itself": loop,
        "a directory inside its header": b"II*\0\0\0\0\0" + bytes(20),
        "orientation 99": loop.replace(struct.pack("<I", 6), struct.pack("<I", 99)),
        "orientation of 4 GB": loop.replace(struct.pack("<I", 1), struct.pack("<I", 2**32 - 1)),
        "another order": b"XX*\0" + bytes(40),
        "thumbnail of 4 GB": loop.replace(entry, struct.pack("<HHII", 0x0202, 4, 1, 2**32 - 1)),
    }
    for name, block in blocks.items():
        for kind in ("JPEG", "PNG", "WEBP"):
            yield f"EXIF {name} in {kind}", saved(drawing(), kind, exif=b"Exif\0\0" + block)
    yield (
        "XMP with entities",
        with_chunks(
            chunk(
                b"iTXt",
                b"XML:com.adobe.xmp\0\0\0\0\0<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><x>&a;</x>",
            )
        ),
    )
    text = PngImagePlugin.PngInfo()
    text.add_text("<script>", "alert(1)\x1b[2J")
    yield "text of HTML", saved(drawing(), "PNG", pnginfo=text)


def _foreign() -> Iterator[tuple[str, bytes]]:
    for kind in (
        "GIF",
        "TIFF",
        "BMP",
        "ICO",
        "PPM",
        "PCX",
        "SGI",
        "TGA",
        "XBM",
        "EPS",
        "PDF",
        "DDS",
        "ICNS",
        "IM",
        "MSP",
        "JPEG2000",
        "AVIF",
        "SPIDER",
    ):
        mode = {"XBM": "1", "MSP": "1", "SPIDER": "F"}.get(kind, "RGB")
        try:
            yield kind, saved(drawing(mode), kind)
        except (KeyError, OSError):  # a library that Pillow was built without
            continue
    loop = b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x100, 4, 1, 64, 8)
    yield "TIFF in a circle", loop
    yield "TIFF of 4 GB", loop.replace(struct.pack("<I", 64), b"\xff" * 4)
    yield (
        "SVG",
        b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'><image href='file:///etc/passwd'/></svg>",
    )
    yield (
        "SVG of entities",
        b"<!DOCTYPE s [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;'>]><svg>&b;</svg>",
    )
    yield (
        "EPS that runs a program",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (w) file\n%%EOF\n",
    )
    yield "HTML", _HTML
    yield "JSON", b'{"success": false, "error": "not found"}'
    yield "PHP", b"<?php system($_GET['c']); ?>"
    yield "shell", b"#!/bin/sh\nid\n"
    yield "ELF", b"\x7fELF\2\1\1" + bytes(100)
    yield "EXE", b"MZ" + bytes(200)
    yield "pickle", b"\x80\x04cos\nsystem\n(S'id'\ntR."
    yield "PSD", b"8BPS\0\1" + bytes(6) + b"\0\3\0\0\0\x10\0\0\0\x10\0\x08\0\3" + bytes(40)
    yield "FLI", struct.pack("<IHH", 200, 0xAF11, 9) + bytes(200)
    yield "WMF", b"\xd7\xcd\xc6\x9a" + bytes(100)
    yield "MP4", b"\0\0\0\x18ftypmp42" + bytes(100)
    yield "SWF", b"CWS\x09" + bytes(100)
    yield "gzip", gzip.compress(saved(drawing(), "PNG"), mtime=0)
    yield "zip", _zip()
    yield "tar", _tar()


def _empty() -> Iterator[tuple[str, bytes]]:
    heads = {
        "PNG": b"\x89PNG\r\n\x1a\n",
        "JPEG": b"\xff\xd8\xff",
        "WebP": b"RIFF\x10\0\0\0WEBPVP8 ",
        "GIF": b"GIF89a",
    }
    yield "nothing", b""
    yield "one byte", b"\0"
    yield "zeros", bytes(4096)
    yield "ones", b"\xff" * 4096
    yield "noise", random.Random(0).randbytes(4096)  # noqa: S311  # not a secret
    for kind, head in heads.items():
        yield f"{kind} head", head
        yield f"{kind} head and zeros", head + bytes(2000)
        yield f"{kind} head and HTML", head + _HTML
        yield f"{kind} head and noise", head + random.Random(1).randbytes(2000)  # noqa: S311  # as above


def _polyglots() -> Iterator[tuple[str, bytes]]:
    for kind in ("JPEG", "PNG", "WEBP"):
        data = saved(drawing(), kind)
        for name, tail in {
            "zip": _zip(),
            "tar": _tar(),
            "HTML": _HTML,
            "PHP": b"<?php x ?>",
            "zeros": bytes(10**6),
        }.items():
            yield f"{kind} and {name}", data + tail
    data = saved(drawing(), "JPEG", comment=_HTML)
    yield "JPEG with HTML as a comment", data
    yield "JPEG in PNG", with_chunks(chunk(b"tEXt", b"x\0" + data))
    yield "HTML and PNG", _HTML + saved(drawing(), "PNG")
    yield "PDF and JPEG", b"%PDF-1.4\n" + data
    yield "GIF and script", b"GIF89a/*" + bytes(20) + b"*/=1;alert(1)"
    yield "two JPEG", data + data
    yield "two PNG", saved(drawing(), "PNG") * 2


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("../payload.js"), "alert('hidden')")
    return buffer.getvalue()


def _tar() -> bytes:
    return tarfile.TarInfo("../payload.png").tobuf() + bytes(1024)


_KINDS: dict[str, Callable[[], Iterator[tuple[str, bytes]]]] = {
    "cut": _cut,
    "flipped": _flipped,
    "checksum": _checksums,
    "bomb": _bombs,
    "mode": _modes,
    "profile": _profiles,
    "metadata": _metadata,
    "foreign": _foreign,
    "empty": _empty,
    "two in one": _polyglots,
}
