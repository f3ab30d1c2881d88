"""
WebDataset: tar archives in which the files of one sample follow each other, under one name.

`7.png`, `7.cls` and `7.json` are the sample `7`: its image, the number or name of its label, and facts
(https://github.com/webdataset/webdataset). Only headers and small members are read here. A name in an
archive never becomes a path.
"""

import json
import logging
import mmap
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from personae.build.shards import BAD_TAR
from scraper.errors import BadFolder
from scraper.sources.layout.images import (
    MOST_TILES,
    NOTES,
    SPLIT_OF,
    LabelledImage,
    Layout,
    Spans,
    Split,
    check_size,
    damage_named,
    is_label,
    noted,
    plain_file,
    split_of,
)

_log = logging.getLogger(__name__)

IMAGES: Final = frozenset({"jpg", "jpeg", "png", "webp"})
"""Extensions of images that other programs write."""
_NAME = re.compile(r"((?:.*/|)[^./][^./]*)\.([^/]*)", re.DOTALL)
_LABELS = ("cls", "txt")
_KEYS = ("label", "class_name", "class", "cls")  # of a JSON member, in this order
_MOST_BYTES = 1 << 20  # of a label or of a JSON member


def archives(root: Path, paths: Sequence[str]) -> Layout:
    """
    Returns the samples of tar archives.

    The label is that of the member `.cls`, `.txt` or `.json`. A number is a line of `classnames.txt`, or
    of the list in `classes.json`, if the folder has such a file. The split is that of the archive's name
    or folder, else of the JSON member.

    Raises:
        BadFolder: An archive is damaged, cut short, compressed or too large.
    """
    names = _names(root)
    images: list[LabelledImage] = []
    spans: dict[str, Spans] = {}
    for path in paths:
        spans[path] = Spans()
        split = split_of(path)
        for sample in _samples(plain_file(root, path)):
            images += _images(sample, path, spans[path], names, split)
        if len(spans[path].sizes) > MOST_TILES:
            raise BadFolder(f"{root / path} has more than {MOST_TILES} images. Split it.")
    unlabelled = sum(image.label is None for image in images)
    if unlabelled:
        _log.warning("listing: %d images of the archives have no label", unlabelled)
    return Layout(tuple(images), spans=spans)


def _images(
    sample: dict[str, Any], path: str, spans: Spans, names: Sequence[str], split: Split | None
) -> Iterator[LabelledImage]:
    """Yields the images of a sample; those after the first have no label."""
    facts = _facts(sample)
    label = _label(sample, facts, names)
    stated = str(facts.get("split")).lower()
    split = split or SPLIT_OF.get(stated)
    description = noted(**{name: facts.get(name) for name in NOTES})
    for offset, size in sample["images"]:
        yield LabelledImage(
            path, label, split, tile=spans.add(offset, size), description=description
        )
        label = None


def _samples(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the samples of an archive: the ranges of its `images`, and the bytes of small members."""
    sample: dict[str, Any] = {"key": None, "images": []}
    with (
        damage_named(path, BAD_TAR),
        path.open("rb") as file,
        # A header may claim any size. Reading from a map never takes more than the file has.
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        tarfile.open(fileobj=mapped, mode="r:") as archive,
    ):
        for member in archive:
            archive.members = []  # type: ignore[attr-defined]  # tarfile would keep every header
            name = _NAME.fullmatch(member.name)
            if not member.isreg() or member.issparse() or name is None:
                continue
            if member.offset_data + member.size > len(mapped):
                raise tarfile.ReadError(f"it ends within the member {member.name!r:.80}")
            key, extension = name[1], name[2].lower()
            if key != sample["key"]:
                yield sample
                sample = {"key": key, "images": []}
            if extension.rpartition(".")[2] in IMAGES:
                sample["images"].append((member.offset_data, member.size))
            elif extension in (*_LABELS, "cls.txt", "json") and member.size <= _MOST_BYTES:
                start = member.offset_data
                sample[extension.removesuffix(".txt")] = mapped[start : start + member.size]
        yield sample


def _facts(sample: dict[str, Any]) -> dict[str, Any]:
    try:
        facts = json.loads(sample.get("json", b"{}"))
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _label(sample: dict[str, Any], facts: dict[str, Any], names: Sequence[str]) -> str | None:
    """Returns the label of a sample; a name in the JSON member wins over a number elsewhere."""
    stated = [facts[key] for key in _KEYS if isinstance(facts.get(key), str | int)]
    texts = [str(value) for value in stated if isinstance(value, str)]
    texts += [sample[name].decode("utf-8", "replace").strip() for name in _LABELS if name in sample]
    texts += [str(value) for value in stated if not isinstance(value, bool)]
    for text in texts:
        label = (
            names[int(text)]
            if text.isdecimal() and len(text) < 9 and int(text) < len(names)
            else text
        )
        if is_label(label):
            return label
    return None


def _names(root: Path) -> list[str]:
    """
    Returns the names that the numbers of labels stand for; none where no file has them.

    Raises:
        BadFolder: The file cannot be read, or holds no list of labels.
    """
    for name in ("classes.json", "classnames.txt"):
        if not (root / name).exists():
            continue
        path = plain_file(root, name)
        check_size(path)
        with damage_named(path, (OSError, ValueError, RecursionError)):
            text = path.read_text(encoding="utf-8")
            names = json.loads(text) if name.endswith(".json") else text.splitlines()
        if isinstance(names, dict):
            names = names.get("labels")
        if not isinstance(names, list) or not all(
            isinstance(label, str) and is_label(label) for label in names
        ):
            raise BadFolder(f"{path} holds no list of labels. Correct it, or remove it.")
        return names
    return []
