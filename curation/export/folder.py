"""
A folder of image files: SPLIT/LABEL/POST.png, which torchvision, timm and FiftyOne read.

A label is a tag of the board and never a path: its folder has the number of the leaf and the plain
letters of the label, so that folders sort as the leaves do. `index.csv` has the labels as they are,
and the folder source reads it again; `metadata.csv` beside the images of a split is read by
`datasets`. `coco.json` lists images and categories as COCO does, without boxes.
"""

import csv
import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from curation.export.build import COLUMNS, ExportedBuild

_LONGEST = 60  # letters of a label in the name of its folder
_INDEX: Final = ("path", "label", "split")
_COLUMNS: Final = ("file_name", *(name for name in COLUMNS if name != "leaf"))


def write(build: ExportedBuild, folder: Path, *, advance: Callable[[], None]) -> None:
    """Writes the images and their tables into `folder`; calls `advance` after each sample."""
    names = {label: folder_name(leaf, label) for leaf, label in enumerate(build.labels)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    side = build.manifest.image.side
    with ExitStack() as stack:
        index = csv.writer(
            stack.enter_context((folder / "index.csv").open("w", encoding="utf-8", newline=""))
        )
        index.writerow(_INDEX)
        for split in build.splits:
            for label in build.labels:
                (folder / split / names[label]).mkdir(parents=True)
            file = (folder / split / "metadata.csv").open("w", encoding="utf-8", newline="")
            table = csv.DictWriter(stack.enter_context(file), _COLUMNS, extrasaction="ignore")
            table.writeheader()
            for sample in build.samples(split):
                row = sample.columns
                name = f"{sample.post_id}.{build.manifest.image.format}"
                inner = f"{names[row['label']]}/{name}"
                (folder / split / inner).write_bytes(sample.image)
                index.writerow([f"{split}/{inner}", row["label"], split])
                lists = {key: " ".join(row[key]) for key in ("tags", "copyrights")}
                table.writerow({**row, **lists, "file_name": inner})
                images.append(
                    {
                        "id": sample.post_id,
                        "file_name": f"{split}/{inner}",
                        "width": side,
                        "height": side,
                    }
                )
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": sample.post_id,
                        "category_id": build.labels.index(row["label"]),
                    }
                )
                advance()
    categories = [{"id": leaf, "name": label} for leaf, label in enumerate(build.labels)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "coco.json").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")


def folder_name(leaf: int, label: str) -> str:
    """Returns the name of a label's folder: 007_hatsune_miku; only plain letters of the label."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", label).strip("_")[:_LONGEST]
    return f"{leaf:03d}_{plain}" if plain else f"{leaf:03d}"
