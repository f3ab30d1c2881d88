"""
`python -m train predict RUN IMAGE…`: labels, probabilities, and the path through the tree.

Takes image files and folders; gives one prediction for each image, as JSON lines, CSV or Parquet.
Images are untrusted input. The function that stage `measure` uses turns them into squares: the long
side is scaled to the run's image side, and the margin gets the colour that it has in the run's shards.
"""

import csv
import json
import logging
import stat
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, UInt8

from personae import container, squares, tables
from personae.documents import Background
from personae.errors import MissingInput, UnreadableImage
from personae.progress import Progress
from personae.text import printable
from train import saved
from train.data import augment
from train.errors import BadImage
from train.tree import hierarchy

_log = logging.getLogger(__name__)

MAX_BYTES = 64 * 1024 * 1024
MAX_PIXELS = 50_000_000  # 200 MB decoded; Pillow warns at 89 million
_BATCH = 64
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_NAMED = 5  # files that the log names, of those that are passed over

Form = Literal["json", "csv"]
Write = Callable[[Sequence["Prediction"]], None]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a run predicts for one image; without labels and path if the image cannot be read."""

    image: str
    """The path as given, or below the folder that was given."""
    labels: tuple[str, ...] = ()
    """The most probable labels, the best first."""
    probabilities: tuple[float, ...] = ()
    """Of these labels."""
    path: tuple[tuple[str, float], ...] = ()
    """Nodes from the root to the best label. The probability of a node is that of its labels."""
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the prediction as one JSON object."""
        if self.error is not None:
            return {"image": self.image, "error": self.error}
        return {
            "image": self.image,
            "label": self.labels[0],
            "probabilities": dict(zip(self.labels, self.probabilities, strict=True)),
            "path": [{"node": node, "probability": share} for node, share in self.path],
        }

    def to_row(self) -> dict[str, Any]:
        """Returns the prediction as one row of a table, with the columns of `_schema`."""
        row: dict[str, Any] = {"image": self.image}
        for rank, (label, share) in enumerate(zip(self.labels, self.probabilities, strict=True), 1):
            row |= {_ranked("label", rank): label, _ranked("probability", rank): share}
        path = " > ".join(node for node, _ in self.path) or None
        return row | {"path": path, "error": self.error}


def run(
    name: str,
    paths: Sequence[Path],
    *,
    seed: int,
    results_dir: Path,
    top: int = 5,
    form: Form = "json",
    parquet: Path | None = None,
    out: TextIO | None = None,
) -> None:
    """
    Predicts image files, and the images in folders and their subfolders, in the order given.

    Args:
        name: A trained run.
        paths: Image files and folders. Files of a folder that are no images are passed over, unless
            their names end as those of images do.
        seed: Random seed of the run.
        results_dir: Folder of the trained runs.
        top: Number of labels for each image, at least 1.
        form: JSON lines, or CSV with a header.
        parquet: Parquet file to write instead.
        out: Where lines go; standard output if None.

    Raises:
        MissingInput: The run was not trained, or a folder holds no images.
        BadDocument: model.json has another shape.
        BadImage: An image is absent, no regular file, too large, animated or damaged. The other
            images are predicted first, and the prediction of this one holds the error.
    """
    model = saved.load(results_dir / name / str(seed))
    images = [image for path in paths for image in _images(path)]
    top = min(top, len(model.model.labels))
    errors: list[str] = []
    with ExitStack() as stack:
        if parquet is not None:
            write = _parquet_writer(stack, parquet, top)
        else:
            write = (_json_writer if form == "json" else _csv_writer)(out or sys.stdout, top)
        progress = stack.enter_context(Progress("predict", len(images)))
        remaining = iter(images)
        while batch := list(islice(remaining, _BATCH)):
            predictions = predict(model, batch, top=top)
            write(predictions)
            for prediction in predictions:
                progress.advance("failed" if prediction.error else "predicted")
            errors += [entry.error for entry in predictions if entry.error is not None]
    if len(errors) > 1:
        raise BadImage(f"{len(errors)} of {len(images)} images failed. The first: {errors[0]}")
    if errors:
        raise BadImage(errors[0])


def predict(model: saved.Saved, paths: Sequence[Path], *, top: int) -> list[Prediction]:
    """Returns the prediction of each image file, in order."""
    pixels: dict[int, UInt8[np.ndarray, "side side 3"]] = {}
    errors: dict[int, str] = {}
    for index, path in enumerate(paths):
        try:
            pixels[index] = square(path, side=model.model.side, background=model.model.background)
        except BadImage as error:
            errors[index] = str(error)
    rows = dict(zip(pixels, probabilities(model, list(pixels.values())), strict=True))
    return [
        Prediction(str(path), error=errors[index])
        if index in errors
        else described(model, str(path), rows[index], top=top)
        for index, path in enumerate(paths)
    ]


@torch.no_grad()
def probabilities(
    model: saved.Saved, pixels: Sequence[UInt8[np.ndarray, "side side 3"]]
) -> Float[np.ndarray, "image leaf"]:
    """Returns the probabilities of each image in the default mode of the run's method."""
    if not pixels:
        return np.empty((0, len(model.model.labels)), dtype=np.float32)
    inputs = augment.scale(torch.from_numpy(np.stack(pixels)))
    return np.asarray(model.classifier.outputs(inputs)["default"].numpy())


def described(
    model: saved.Saved, image: str, shares: Float[np.ndarray, " leaf"], *, top: int
) -> Prediction:
    """Returns the prediction of an image with these probabilities: its best labels, and the path."""
    graph, labels = model.classifier.hierarchy, model.model.labels
    best = np.argsort(-shares, kind="stable")[:top].tolist()
    nodes = hierarchy.paths(graph)[best[0]]
    return Prediction(
        image,
        labels=tuple(labels[leaf] for leaf in best),
        probabilities=tuple(round(float(shares[leaf]), 6) for leaf in best),
        path=tuple(
            (
                labels[best[0]] if node == nodes[-1] else node,
                round(float(shares[list(graph.nodes[node]["members"])].sum()), 6),
            )
            for node in nodes
        ),
    )


def square(
    path: Path, *, side: int, background: Background = "border"
) -> UInt8[np.ndarray, "side side 3"]:
    """
    Returns an image file as a square of `side` pixels, RGB, upright, transparency on white.

    The margin has the mean colour of the border, or is white.

    Raises:
        BadImage: The file is absent, no regular file, too large, animated, damaged, or no JPEG,
            PNG or WebP.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
            raise BadImage(_refusal(path, "it is no regular file"))
        if status.st_size > MAX_BYTES:
            raise BadImage(_refusal(path, f"it has more than {MAX_BYTES} bytes"))
        data = path.read_bytes()
        return squares.square(data, side=side, background=background, max_pixels=MAX_PIXELS)
    except FileNotFoundError as error:
        raise BadImage(
            f"{path} does not exist. Name an image file or a folder of images."
        ) from error
    except OSError as error:
        raise BadImage(_refusal(path, error.strerror or str(error))) from error
    except UnreadableImage as error:
        raise BadImage(_refusal(path, f"{error.reason} ({error.detail})")) from error


def _images(path: Path) -> list[Path]:
    """Returns a file itself, or the images in a folder and its subfolders, sorted by path."""
    if not path.is_dir():
        return [path]
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    images = [file for file in files if _is_image(file)]
    if not images:
        raise MissingInput(f"{path} holds no JPEG, PNG or WebP images. Name another folder.")
    others = [str(file.relative_to(path)) for file in sorted({*files} - {*images})]
    if others:
        _log.info(
            "predict: passed over %d of %d files in %s, since only JPEG, PNG and WebP are read: %s%s",
            len(others),
            len(files),
            path,
            printable(", ".join(others[:_NAMED])),
            f" and {len(others) - _NAMED} more" if len(others) > _NAMED else "",
        )
    return images


def _is_image(path: Path) -> bool:
    """
    Returns whether a file begins as an image does, or is named like one.

    `square` names the reason where such a file is empty, damaged or unreadable. Hidden files go by
    their bytes: macOS stores notes on `a.png` in `._a.png`.
    """
    if path.suffix.lower() in _SUFFIXES and not path.name.startswith("."):
        return True
    try:
        with path.open("rb") as file:
            return container.signature(file.read(container.SIGNATURE_BYTES)) is not None
    except OSError:
        return True


def _json_writer(out: TextIO, _top: int) -> Write:
    def write(predictions: Sequence[Prediction]) -> None:
        out.writelines(
            json.dumps(entry.to_json(), ensure_ascii=False) + "\n" for entry in predictions
        )

    return write


def _csv_writer(out: TextIO, top: int) -> Write:
    writer = csv.DictWriter(out, _schema(top).names, lineterminator="\n")
    writer.writeheader()
    return lambda predictions: writer.writerows(entry.to_row() for entry in predictions)


def _parquet_writer(stack: ExitStack, path: Path, top: int) -> Write:
    schema = _schema(top)
    writer = stack.enter_context(tables.writer(path, schema))
    return lambda predictions: writer.write_table(
        pa.Table.from_pylist([entry.to_row() for entry in predictions], schema=schema)
    )


def _schema(top: int) -> pa.Schema:
    """Returns the columns of the tables: image, label, probability, label_2, …, path, error."""
    columns = {"image": pa.string()}
    for rank in range(1, top + 1):
        columns |= {_ranked("label", rank): pa.string(), _ranked("probability", rank): pa.float64()}
    return pa.schema(columns | {"path": pa.string(), "error": pa.string()})


def _ranked(column: str, rank: int) -> str:
    return column if rank == 1 else f"{column}_{rank}"


def _refusal(path: Path, reason: str) -> str:
    return f"{path} cannot be predicted: {reason}. Give JPEG, PNG or WebP images that open in a viewer."
