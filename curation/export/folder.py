"""
A folder of image files: SPLIT/LABEL/POST.png, which torchvision, timm and FiftyOne read.

A label is a tag of the board and never a path: its folder has the number of the leaf and the plain
letters of the label, so that folders sort as the leaves do. `index.csv` has the printable letters of the
labels, with artist, source, rating and licence, and the folder source reads it again; `metadata.csv`
beside the images of a split is read by `datasets`. `coco.json` lists images and categories as COCO does,
without boxes.
"""

import csv
import json
import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from curation.export.build import COLUMNS, ExportedBuild, plain_labels, plain_name
from curation.workers import check_for_stop

_PIECE = 1000  # images that one worker writes in a row
_LONGEST = 60  # letters of a label in the name of its folder
_INDEX: Final = ("path", "label", "split", "artist", "source", "rating", "licence")
_MOST_TEXT = 2000  # letters of a source or licence that the folder source keeps
_COLUMNS: Final = ("file_name", *(name for name in COLUMNS if name != "leaf"))


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """Some image files to write, and the folder of their split."""

    folder: Path
    build: ExportedBuild
    """The samples of the files."""
    split: str
    names: dict[str, str]
    """The names of the folders of the labels."""


def plan(build: ExportedBuild, folder: Path) -> list[ImageFiles]:
    """Writes the tables into `folder` and makes its folders; returns the image files to write."""
    names = {label: folder_name(leaf, label) for leaf, label in enumerate(build.labels)}
    for split in build.splits:
        for name in names.values():
            (folder / split / name).mkdir(parents=True)
    _write_tables(build, folder, names)
    return [
        ImageFiles(folder / split, piece, split, names)
        for split in build.splits
        for piece in build.pieces(split, bytes_of_piece=0, samples_of_group=_PIECE)
    ]


def write(files: ImageFiles) -> int:
    """Writes some image files, and returns their number."""
    for sample in files.build.samples(files.split):
        check_for_stop()
        inner = _inner(sample.columns, files.build, files.names)
        (files.folder / inner).write_bytes(sample.image)
    return int(files.build.chosen.num_rows)


def _inner(row: dict[str, Any], build: ExportedBuild, names: dict[str, str]) -> str:
    """Returns the path of an image in the folder of its split."""
    return f"{names[row['label']]}/{row['post_id']}.{build.manifest.image.format}"


def _write_tables(build: ExportedBuild, folder: Path, names: dict[str, str]) -> None:
    """Writes index.csv, coco.json and the metadata.csv of each split."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    side = build.manifest.image.side
    # A name that the index may not have would refuse the whole folder.
    labels = plain_labels(build.labels)
    with ExitStack() as stack:
        index = csv.writer(
            stack.enter_context((folder / "index.csv").open("w", encoding="utf-8", newline=""))
        )
        index.writerow(_INDEX)
        for split in build.splits:
            file = (folder / split / "metadata.csv").open("w", encoding="utf-8", newline="")
            table = csv.DictWriter(stack.enter_context(file), _COLUMNS, extrasaction="ignore")
            table.writeheader()
            for row in build.columns(split):
                inner = _inner(row, build, names)
                index.writerow([f"{split}/{inner}", labels[row["label"]], split, *_notes(row)])
                lists = {key: " ".join(row[key]) for key in ("tags", "copyrights")}
                table.writerow({**row, **lists, "file_name": inner})
                images.append(
                    {
                        "id": row["post_id"],
                        "file_name": f"{split}/{inner}",
                        "width": side,
                        "height": side,
                    }
                )
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": row["post_id"],
                        "category_id": build.labels.index(row["label"]),
                    }
                )
    categories = [{"id": leaf, "name": label} for leaf, label in enumerate(build.labels)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "coco.json").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")


def _notes(row: dict[str, Any]) -> tuple[str, ...]:
    """Returns artist, source, rating and licence as the folder source reads them."""
    artists = map(plain_name, (row["artist"] or "").split(" "))
    source, licence = ((row[name] or "")[:_MOST_TEXT] for name in ("source_url", "licence"))
    return "\n".join(filter(None, artists)), source, row["rating"] or "", licence


def folder_name(leaf: int, label: str) -> str:
    """Returns the name of a label's folder: 007_hatsune_miku; only plain letters of the label."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", label).strip("_")[:_LONGEST]
    return f"{leaf:03d}_{plain}" if plain else f"{leaf:03d}"
