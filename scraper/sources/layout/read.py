"""
The layout of a folder of labelled images: which images, with which label and split.

Recognised are an `index.csv`, an `index.json` of mosaics, `LABEL/…`, `{train,val,test}/LABEL/…`, and what
other programs write: WebDataset archives, Parquet and Arrow files of `datasets`, and downloads of
gallery-dl. No image is opened here. A folder may come from strangers: an invalid index is an error that
names line or key, and no path leaves the folder.
"""

import itertools
import logging
import unicodedata
from collections import defaultdict
from pathlib import Path, PurePosixPath

from personae.errors import MissingInput
from personae.text import printable
from scraper.errors import BadFolder
from scraper.sources.layout import (
    csv_index,
    gallery_dl,
    hugging_face,
    json_index,
    label_folders,
    webdataset,
)
from scraper.sources.layout.images import Layout, files_below

_log = logging.getLogger(__name__)

_INDEX_CSV, _INDEX_JSON = "index.csv", "index.json"
_TEXTS = frozenset({".csv", ".json", ".md", ".txt"})
_PACKED = {
    ".tar": webdataset.archives,
    ".parquet": hugging_face.parquet_files,
    ".arrow": hugging_face.arrow_files,
}
"""Files of many images. An archive goes before a table, which then lists its samples."""


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
        _warn_of_unnamed(root, layout, _INDEX_CSV)
    elif (root / _INDEX_JSON).is_file():
        layout = json_index.mosaics(root / _INDEX_JSON)
        _warn_of_unnamed(root, layout, _INDEX_JSON)
    else:
        layout = _of_other_programs(root) or Layout(tuple(label_folders.labelled(root)))
    if not any(image.label or image.personae for image in layout.images):
        raise MissingInput(
            f"{root} holds no labelled image. Give a folder with one sub-folder for each label (or "
            f"train, val and test with such in them), or with an {_INDEX_CSV} of path and label."
        )
    _warn_of_like_labels(root, layout)
    return layout


def _warn_of_unnamed(root: Path, layout: Layout, index: str) -> None:
    """Logs how many files an index does not name; tables and texts beside images are none of them."""
    named = {_spelling(image.path) for image in layout.images}
    try:
        unnamed = [
            path
            for path in files_below(root)
            if PurePosixPath(path).suffix.lower() not in _TEXTS
            and _spelling(path) not in named
            and not (root / path).is_dir()  # a link
        ]
    except (BadFolder, OSError):  # of a folder that the index need not name
        return
    if unnamed:
        shown = ", ".join(map(printable, unnamed[:3])) + (", …" if len(unnamed) > 3 else "")
        _log.warning(
            "listing: %s does not name %d files of its folder (%s). They are left out: add a row for "
            "each that belongs to the data set.",
            root / index,
            len(unnamed),
            shown,
        )


def _warn_of_like_labels(root: Path, layout: Layout) -> None:
    """Logs labels that a reader takes for one, and those that no line of relabel.txt can name."""
    labels = sorted({image.label for image in layout.images if image.label})
    like = defaultdict(list)
    for label in labels:
        like["".join(_spelling(label).split())].append(label)
    alike = [", ".join(map(_quoted, group)) for group in like.values() if len(group) > 1]
    if alike:
        _log.warning(
            "listing: %s has labels that differ only in spaces, letter case or the encoding of accents: "
            "%s. They stay separate labels: rename those that mean the same.",
            root,
            "; ".join(alike[:3]) + ("; …" if len(alike) > 3 else ""),
        )
    padded = [label for label in labels if label != label.strip()]
    if padded:
        _log.warning(
            "listing: %s has %d labels with a space at an end, such as %s. relabel.txt cannot name such "
            "a label: rename it.",
            root,
            len(padded),
            _quoted(padded[0]),
        )


def _quoted(label: str) -> str:
    return f"{label!r:.60}"


def _spelling(name: str) -> str:
    """Returns a name as file systems compare it that take one spelling for another (macOS)."""
    return unicodedata.normalize("NFC", name).casefold()


def _of_other_programs(root: Path) -> Layout | None:
    """Returns the layout of what another program wrote; None for folders of labels."""
    paths = files_below(root)
    if gallery_dl.is_download(root, paths):
        return Layout(tuple(gallery_dl.described(root, paths)))
    of_suffix = defaultdict(list)
    for path in paths:
        of_suffix[PurePosixPath(path).suffix.lower()].append(path)
    packed = next((suffix for suffix in _PACKED if of_suffix[suffix]), None)
    loose = [path for name in sorted(webdataset.IMAGES) for path in of_suffix[f".{name}"]]
    if packed and loose:
        _log.warning(
            "listing: %s holds images, such as %s, so that its %s files are no images. Move one of the "
            "two elsewhere to read the others.",
            root,
            loose[0],
            packed,
        )
    return _PACKED[packed](root, of_suffix[packed]) if packed and not loose else None


def files(layout: Layout) -> list[str]:
    """Returns the paths of a layout, each once, in order."""
    paths = sorted(image.path for image in layout.images)
    return [path for path, _ in itertools.groupby(paths)]
