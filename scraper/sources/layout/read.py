"""
The layout of a folder of labelled images: which images, with which label and split.

Four layouts are recognised: an `index.csv`, an `index.json` of mosaics, `LABEL/…`, and
`{train,val,test}/LABEL/…`. No image is opened here. A folder may come from strangers: an invalid
index is an error that names line or key, and no path leaves the folder.
"""

import itertools
from pathlib import Path

from personae.errors import MissingInput
from scraper.sources.layout import csv_index, json_index, label_folders
from scraper.sources.layout.images import Layout

_INDEX_CSV, _INDEX_JSON = "index.csv", "index.json"


def read(root: Path) -> Layout:
    """
    Returns the layout of the folder `root`.

    Raises:
        MissingInput: There is no such folder, or no labelled file in it.
        MissingColumn: `index.csv` lacks column path or label.
        BadFolder: An index cannot be read, or holds a path that leaves the folder, a path twice,
            an invalid label or split; a folder beside the splits holds files; or the folder of a
            label is a link that leads outside.
    """
    if not root.is_dir():
        raise MissingInput(
            f"{root} is no folder. Give one of labelled images: `site.folder`, or --folder."
        )
    if (root / _INDEX_CSV).is_file():
        layout = Layout(tuple(csv_index.rows(root / _INDEX_CSV)))
    elif (root / _INDEX_JSON).is_file():
        layout = json_index.mosaics(root / _INDEX_JSON)
    else:
        layout = Layout(tuple(label_folders.labelled(root)))
    if not any(image.label for image in layout.images):
        raise MissingInput(
            f"{root} holds no labelled image. Give a folder with one sub-folder a label (or "
            f"train, val and test with such in them), or with an {_INDEX_CSV} of path and label."
        )
    return layout


def files(layout: Layout) -> list[str]:
    """Returns the paths of a layout, each once, in order."""
    paths = sorted(image.path for image in layout.images)
    return [path for path, _ in itertools.groupby(paths)]
