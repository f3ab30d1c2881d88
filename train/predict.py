"""
`python -m train predict RUN IMAGE…`: labels, probabilities, and the path through the tree.

Images are untrusted input. The function that stage `measure` uses turns them into squares: the long
side is scaled to the run's image side, and the margin gets the mean colour of the border.
"""

import json
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from jaxtyping import UInt8

from personae import squares
from personae.errors import UnreadableImage
from train import saved
from train.data import augment
from train.errors import BadImage
from train.tree import hierarchy

_MAX_BYTES = 64 * 1024 * 1024
_MAX_PIXELS = 50_000_000  # 200 MB decoded; Pillow warns at 89 million


@torch.no_grad()
def run(
    name: str,
    paths: Sequence[Path],
    *,
    seed: int,
    results_dir: Path,
    top: int = 5,
    out: TextIO | None = None,
) -> list[dict[str, Any]]:
    """
    Prints one JSON line for each image, and returns the lines.

    Raises:
        MissingInput: The run was not trained.
        BadDocument: model.json has another shape.
        BadImage: An image is absent, no regular file, too large, animated or damaged; nothing is
            printed then.
    """
    run_saved = saved.load(results_dir / name / str(seed))
    classifier, labels = run_saved.classifier, run_saved.model.labels
    squares = np.stack([square(path, side=run_saved.model.side) for path in paths])
    inputs = augment.scale(torch.from_numpy(squares))
    outputs = {key: values.numpy() for key, values in classifier.outputs(inputs).items()}
    nodes = hierarchy.paths(classifier.hierarchy)
    clusters = hierarchy.clusters(classifier.hierarchy)
    lines = []
    for row, path in enumerate(paths):
        probabilities = outputs["default"][row]
        best = np.argsort(-probabilities, kind="stable")[:top].tolist()
        line: dict[str, Any] = {
            "picture": str(path),
            "label": labels[best[0]],
            "probabilities": {labels[leaf]: round(float(probabilities[leaf]), 6) for leaf in best},
            "path": _path(nodes[best[0]], labels),
        }
        if "coarse" in outputs:
            chosen = int(outputs["coarse"][row].argmax())
            line["cluster"] = [labels[leaf] for leaf in clusters[chosen]]
            line["cluster_probability"] = round(float(outputs["coarse"][row, chosen]), 6)
        lines.append(line)
    stream = out or sys.stdout
    for line in lines:
        stream.write(json.dumps(line, ensure_ascii=False) + "\n")
    return lines


def square(path: Path, *, side: int) -> UInt8[np.ndarray, "side side 3"]:
    """
    Returns an image file as a square of `side` pixels, RGB, upright, transparency on white.

    Raises:
        BadImage: The file is absent, no regular file, too large, animated, damaged, or no JPEG,
            PNG or WebP.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
            raise BadImage(_refusal(path, "it is no regular file"))
        if status.st_size > _MAX_BYTES:
            raise BadImage(_refusal(path, f"it has more than {_MAX_BYTES} bytes"))
        data = path.read_bytes()
        return squares.square(data, side=side, background="border", max_pixels=_MAX_PIXELS)
    except OSError as error:
        raise BadImage(_refusal(path, f"{type(error).__name__}: {error}")) from error
    except UnreadableImage as error:
        raise BadImage(_refusal(path, f"{error.reason} ({error.detail})")) from error


def _path(nodes: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Returns the node names from the root down, the leaf by its label."""
    return [*nodes[:-1], labels[int(nodes[-1].removeprefix("label-"))]]


def _refusal(path: Path, reason: str) -> str:
    return f"{path} cannot be predicted: {reason}. Give JPEG, PNG or WebP images that open in a viewer."
