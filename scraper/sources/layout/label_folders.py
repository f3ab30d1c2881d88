"""
Folders without an index: `LABEL/…`, or `{train,val,test}/LABEL/…`, at any depth below the label.

Every file is listed, whatever its name, so that each has a decision. No file is opened here.
"""

from collections.abc import Iterator
from pathlib import Path

from scraper.errors import BadFolder
from scraper.sources.layout.images import (
    SPLIT_OF,
    LabelledImage,
    Split,
    files_below,
    named,
)


def labelled(root: Path) -> Iterator[LabelledImage]:
    """
    Yields every file below `root` with the label of its folder, and its split where there is one.

    The top folders are splits where they are called so and hold folders; otherwise they are labels.
    A file above the labels has none.

    Raises:
        BadFolder: A folder beside the splits holds files, the name of a label is invalid, or a
            folder cannot be read or is a link that leads outside.
    """
    top = _folders(root, root)
    splits = {name: SPLIT_OF[name.lower()] for name in top if name.lower() in SPLIT_OF}
    if any(_folders(root / name, root) for name in splits):
        _check_beside(root, [name for name in top if name not in splits])
        yield from _loose(root, "", None)
        for name, split in splits.items():
            yield from _loose(root, f"{name}/", split)
            for label in _folders(root / name, root):
                yield from _of_label(root, f"{name}/{label}", split)
    else:
        yield from _loose(root, "", None)
        for label in top:
            yield from _of_label(root, label, None)


def _folders(folder: Path, root: Path) -> list[str]:
    """Returns the names of the folders in a folder, in order, without hidden ones (`.git`)."""
    names = sorted(
        path.name for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir()
    )
    for name in names:
        if not (folder / name).resolve().is_relative_to(root.resolve()):
            raise BadFolder(
                f"{folder / name} is a link that leaves {root}. Copy the target of the link, or "
                "name the folder that holds both."
            )
    return names


def _check_beside(root: Path, others: list[str]) -> None:
    """A folder beside train and test is a label that was forgotten, or no part of the data."""
    for name in others:
        files = files_below(root / name)
        if files:
            raise BadFolder(
                f"{root / name} lies beside train, val or test and holds files ({len(files)}, such "
                f"as {files[0]!r:.80}), but is neither a split nor in one. Move it out of {root} or "
                "into a split, or write an index.csv of path, label and split."
            )


def _loose(root: Path, folder: str, split: Split | None) -> Iterator[LabelledImage]:
    for path in sorted((root / folder).iterdir()):
        if not path.is_dir() and not path.name.startswith("."):
            yield LabelledImage(f"{folder}{path.name}", None, split)


def _of_label(root: Path, folder: str, split: Split | None) -> Iterator[LabelledImage]:
    label = named(folder.rpartition("/")[2], "label", f"Folder {folder!r} of {root}")
    for path in files_below(root / folder):
        yield LabelledImage(f"{folder}/{path}", label, split)
