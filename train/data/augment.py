"""
Augmentation: turns batches of uint8 images into float network input, on the device.

Either an affine map of rotation, zoom, shift and mirroring, as in the Uppsala report; or crops of the
padded image by whole pixels and mirroring, as is usual for CIFAR. The random numbers of an image
depend on seed, network, epoch and its position in the epoch alone. See docs/methods/data.md.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # the name that all of torch's documentation uses
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from personae.errors import BadParams
from train.params.augment import Params


@dataclass(frozen=True, slots=True)
class Draws:
    """The random numbers of augmentation for each position of an epoch."""

    angle: Float[np.ndarray, " position"]
    """Radians, anticlockwise on the screen."""
    zoom: Float[np.ndarray, " position"]
    shift_x: Float[np.ndarray, " position"]
    """Share of the side, to the right; for crops the first column, in whole pixels."""
    shift_y: Float[np.ndarray, " position"]
    """Share of the side, downwards; for crops the first row, in whole pixels."""
    mirrored: Float[np.ndarray, " position"]
    """1 where the image is mirrored, else 0."""

    def at(self, positions: Int[np.ndarray, " batch"]) -> "Draws":
        """Returns the random numbers of some positions."""
        return Draws(
            self.angle[positions],
            self.zoom[positions],
            self.shift_x[positions],
            self.shift_y[positions],
            self.mirrored[positions],
        )


def draw(params: Params, count: int, rng: np.random.Generator, *, side: int) -> Draws:
    """
    Returns the random numbers for `count` positions, for images of `side` pixels.

    The first positions get the same numbers whatever `count` is.

    Raises:
        BadParams: The crop is larger than the image.
    """
    uniform = rng.random((count, 5), dtype=np.float32)
    centred = 2 * uniform[:, :4] - 1
    shift = centred[:, 2:4] * params.shift
    if params.crops:
        offsets = side + 2 * params.pad - params.network_side(side) + 1
        if params.network_side(side) > side:
            raise BadParams(
                f"augment.crop is {params.crop}, and the images have {side} pixels: evaluation "
                "takes the centre of an image. Choose a smaller crop."
            )
        shift = np.minimum(np.floor(uniform[:, 2:4] * offsets), offsets - 1) - params.pad
    return Draws(
        angle=centred[:, 0] * math.radians(params.rotation),
        zoom=1 + uniform[:, 1] * (params.zoom - 1),
        shift_x=shift[:, 0],
        shift_y=shift[:, 1],
        mirrored=(uniform[:, 4] < (0.0 if params.flip == "none" else 0.5)).astype(np.float32),
    )


def affine(draws: Draws, *, flip: str) -> Float[Tensor, "batch 2 3"]:
    r"""
    Returns the map from output to input positions, both in -1..1 with x to the right, y down.

    An image is mirrored, zoomed by $z$, rotated by $a$ and then shifted by $t$ (in shares of the
    side, so $2t$ here). `affine_grid` takes the inverse,

    $$x_{in} = F \, \frac{1}{z} R(-a) \, (x_{out} - 2t)$$
    """
    cos, sin = np.cos(draws.angle) / draws.zoom, np.sin(draws.angle) / draws.zoom
    # Anticlockwise on a screen whose y points down; this is its inverse.
    matrix = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], axis=-2)
    mirror = 1 - 2 * draws.mirrored
    matrix[:, 1 if flip == "ud" else 0, :] *= mirror[:, None]
    shift = 2 * np.stack([draws.shift_x, draws.shift_y], axis=-1)
    offset = -np.einsum("bij,bj->bi", matrix, shift)
    return torch.from_numpy(np.concatenate([matrix, offset[:, :, None]], axis=-1))


def scale(images: UInt8[Tensor, "batch height width 3"]) -> Float[Tensor, "batch 3 height width"]:
    """Returns pixels in 0..1, channels first in shape and last in memory."""
    return images.permute(0, 3, 1, 2).float().div_(255)


def apply(
    images: UInt8[Tensor, "batch height width 3"],
    draws: Draws,
    *,
    params: Params,
    mean: Float[Tensor, "3"],
) -> Float[Tensor, "batch 3 rows columns"]:
    """Returns augmented images minus the mean of each channel; the affine map is bilinear."""
    if params.crops:
        return _cropped(images, draws, params=params, mean=mean)
    centred = scale(images) - mean[:, None, None]
    theta = affine(draws, flip=params.flip).to(centred)
    grid = F.affine_grid(theta, list(centred.shape), align_corners=False)
    fill = _fill(params, mean)
    padding = {"border": "border", "reflect": "reflection"}.get(params.outside, "zeros")
    if fill is not None:
        centred = centred - fill  # what lies outside reads as zero
    moved = F.grid_sample(centred, grid, mode="bilinear", padding_mode=padding, align_corners=False)
    if fill is not None:
        moved = moved + fill
    return moved.contiguous(memory_format=torch.channels_last)


def middle(
    x: Float[Tensor, "batch channel height width"], side: int
) -> Float[Tensor, "batch channel side side"]:
    """Returns the central square of `side` pixels; smaller images are returned as they are."""
    if x.shape[-1] <= side:
        return x
    top, left = (x.shape[-2] - side) // 2, (x.shape[-1] - side) // 2
    return x[..., top : top + side, left : left + side]


def _cropped(
    images: UInt8[Tensor, "batch height width 3"], draws: Draws, *, params: Params, mean: Tensor
) -> Float[Tensor, "batch 3 side side"]:
    """Returns whole-pixel crops, mirrored where drawn: one gather over rows and columns."""
    height, width = images.shape[1:3]
    inside = torch.arange(params.network_side(height), device=images.device)
    mirrored = torch.from_numpy(draws.mirrored).to(images.device).bool()[:, None]
    backwards = torch.where(mirrored, inside.flip(0), inside)
    forwards = inside.expand_as(backwards)
    down, across = (forwards, backwards) if params.flip != "ud" else (backwards, forwards)
    rows = torch.from_numpy(draws.shift_y).to(images.device).long()[:, None] + down
    columns = torch.from_numpy(draws.shift_x).to(images.device).long()[:, None] + across
    index_of = _reflected if params.outside == "reflect" else _clamped
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    cropped = images[
        batch, index_of(rows, height)[:, :, None], index_of(columns, width)[:, None, :]
    ]
    result = scale(cropped).sub_(mean[:, None, None])
    if params.outside not in ("border", "reflect"):
        outside = ((rows < 0) | (rows >= height))[:, :, None] | (
            (columns < 0) | (columns >= width)
        )[:, None, :]
        fill = _fill(params, mean)
        result = torch.where(outside[:, None], 0.0 if fill is None else fill, result)
    return result.contiguous(memory_format=torch.channels_last)


def _fill(params: Params, mean: Float[Tensor, "3"]) -> Float[Tensor, "3 1 1"] | None:
    """Returns the fill colour minus the mean; None where that is zero or there is no fill colour."""
    level = {"grey": 0.5, "black": 0.0}.get(params.outside)
    return None if level is None else (level - mean)[:, None, None]


def _clamped(positions: Tensor, size: int) -> Tensor:
    """Returns the nearest position inside the image."""
    return positions.clamp(0, size - 1)


def _reflected(positions: Tensor, size: int) -> Tensor:
    """Returns positions mirrored at the edge pixels, which are not repeated, as often as needed."""
    last = size - 1
    return last - (last - positions.abs() % (2 * last)).abs()
