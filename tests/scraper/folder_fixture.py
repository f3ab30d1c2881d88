"""Builds folders of labelled images in every layout."""

import asyncio
import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

LABELS = ("Mr. Mime", "Élan", "plain")
FAMILIES = {"Mr. Mime": "Mimes", "plain": "Others"}


def pixels(number, side=12):
    """Returns noise; equal numbers give equal pixels."""
    return np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)


def save(path, number, **options):
    """Writes one image; the suffix determines the type."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(number)).save(path, **options)


def by_label(root, *, per_label=3, top=()):
    """Writes `LABEL/*`, below each of the folders of `top` if there are any."""
    number = 0
    for folder in [root / name for name in top] or [root]:
        for label in LABELS:
            for copy in range(per_label):
                suffix = ("png", "jpg", "webp")[copy % 3]
                save(folder / label / f"{copy} #1%.{suffix}", number)
                number += 1
    return root


def indexed(root, rows, columns=("path", "label", "split", "group", "family")):
    """Writes `index.csv` with the given rows, unchanged."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / "index.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return root


def mosaics(root, sheets, *, side=4, columns=3, rows=2, **changes):
    """Writes `index.json` and its sheets: name to split and the label number of each tile."""
    root.mkdir(parents=True, exist_ok=True)
    index = {
        "train": [],
        "test": [],
        "fine_names": list(LABELS),
        "coarse_names": ["Mimes", "Others"],
        "coarse_of_fine": [0, 1, 1],
    }
    for number, (name, (split, fine)) in enumerate(sheets.items()):
        canvas = np.zeros((rows * side, columns * side, 3), np.uint8)
        for tile in range(len(fine)):
            row, column = divmod(tile, columns)
            place = np.s_[row * side : (row + 1) * side, column * side : (column + 1) * side]
            canvas[place] = pixels(100 * number + tile, side)
        Image.fromarray(canvas).save(root / name, lossless=True)
        sheet = {"sheet": name, "rows": rows, "columns": columns, "tile": side, "fine": list(fine)}
        index[split].append(sheet)
    (root / "index.json").write_text(json.dumps(index | changes), encoding="utf-8")
    return root


def some_of_cifar100(source: Path, root: Path):
    """Writes the first sheet of each split of CIFAR-100, with an index of these two sheets."""
    index = json.loads((source / "index.json").read_text())
    root.mkdir()
    for split in ("train", "test"):
        index[split] = index[split][:1]
        name = index[split][0]["sheet"]
        (root / name).write_bytes((source / name).read_bytes())
    (root / "index.json").write_text(json.dumps(index), encoding="utf-8")
    return root


def walked(folder, *, size=200):
    """Returns every post of every label, in the order of a listing."""

    async def walk():
        found = []
        async for tag in folder.candidates(1):
            before = None
            while (page := await folder.page(tag.name, before=before, size=size)).posts:
                found += page.posts
                before = page.cursor
        return found

    return asyncio.run(walk())


def fetched(folder, post, *, max_bytes=10**6):
    return asyncio.run(folder.get_bytes(post.variants[-1].url, max_bytes=max_bytes))
