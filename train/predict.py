"""
`python -m train predict RUN IMAGE…`: labels, probabilities, and the path through the tree.

Images are untrusted input. They become squares as in `curation` by default: the long side is scaled
to the run's image side, and the margin gets the mean colour of the border.
"""

import json
import stat
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps

from train import saved
from train.data import augment
from train.errors import BadImage
from train.tree import hierarchy

_FORMATS = ("JPEG", "PNG", "WEBP")
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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oddities of metadata; sizes are checked below
            with Image.open(path, formats=_FORMATS) as opened:
                if opened.width * opened.height > _MAX_PIXELS:
                    raise BadImage(
                        _refusal(path, f"{opened.width}×{opened.height} is above the pixel limit")
                    )
                if opened.format != "JPEG" and getattr(opened, "n_frames", 1) > 1:
                    raise BadImage(_refusal(path, "it is animated"))
                image = _on_white(ImageOps.exif_transpose(opened))
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError) as error:
        raise BadImage(_refusal(path, f"{type(error).__name__}: {error}")) from error
    except (AttributeError, MemoryError, Image.DecompressionBombError) as error:
        raise BadImage(_refusal(path, f"{type(error).__name__}: {error}")) from error
    share = side / max(image.size)
    size = (max(1, round(image.width * share)), max(1, round(image.height * share)))
    result = Image.new("RGB", (side, side), _border_colour(np.asarray(image)))
    corner = ((side - size[0]) // 2, (side - size[1]) // 2)
    result.paste(image.resize(size, Image.Resampling.BICUBIC), corner)
    return np.asarray(result)


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _border_colour(pixels: UInt8[np.ndarray, "height width 3"]) -> tuple[int, int, int]:
    """Returns the mean colour of a frame of 2 % of the shorter side, at least one pixel."""
    height, width = pixels.shape[:2]
    wide = max(1, round(0.02 * min(height, width)))
    frame = np.ones((height, width), dtype=bool)
    frame[wide : height - wide, wide : width - wide] = False
    red, green, blue = (round(float(value)) for value in pixels[frame].mean(axis=0))
    return red, green, blue


def _path(nodes: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Returns the node names from the root down, the leaf by its label."""
    return [*nodes[:-1], labels[int(nodes[-1].removeprefix("label-"))]]


def _refusal(path: Path, reason: str) -> str:
    return f"{path} cannot be predicted: {reason}. Give JPEG, PNG or WebP images that open in a viewer."
