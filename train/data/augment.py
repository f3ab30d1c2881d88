"""
Images to network input, a batch at a time on the device (methods.md 0.2).

Either one affine grid for rotation, zoom, shift and mirror, as the report has them; or whole-pixel
crops of the padded image and mirror, as CIFAR is trained. What is drawn for an image depends on
seed, network, epoch and its position in the epoch alone.
"""

import math
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # the name that all of torch's documentation uses
from jaxtyping import Float, Int, UInt8
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from personae.errors import BadParams


class Params(BaseModel):
    """Section `augment`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rotation: float = Field(
        20.0, ge=0, le=180, description="largest turn to either side in degrees; the report's"
    )
    zoom: float = Field(
        1.2, ge=1, le=4, description="largest enlargement, from 1 (none); the report's 120 %"
    )
    shift: float = Field(
        0.2, ge=0, le=1, description="largest shift per axis as a share of the side; the report's"
    )
    flip: Literal["lr", "ud", "none"] = Field(
        "lr", description="mirror half of the images: lr, the way we read the report; or ud"
    )
    pad: int = Field(
        0,
        ge=0,
        le=64,
        description="whole pixels that an image may move along each axis (a crop of "
        "the padded image), instead of rotation, zoom and shift; 4 is usual for CIFAR",
    )
    crop: int | None = Field(
        None,
        ge=1,
        le=2048,
        description="side of a random crop, which the network then takes; "
        "evaluation takes the middle; HD-CNN: 26 of 32",
    )
    outside: Literal["border", "mean", "grey", "black", "reflect"] = Field(
        "border",
        description="what fills the edge: the image's border drawn out, the mean colour, "
        "grey (HierNet), black, or the image mirrored at its edge",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        turned = [
            n for n, v in (("rotation", 0), ("zoom", 1), ("shift", 0)) if getattr(self, n) != v
        ]
        if self.crops and turned:
            raise ValueError(
                f"pad and crop move whole pixels and exclude {', '.join(turned)}: set rotation: 0, "
                "zoom: 1 and shift: 0, or leave pad and crop out"
            )
        return self

    @property
    def crops(self) -> bool:
        """Whether images are cropped by whole pixels instead of moved by an affine map."""
        return self.pad > 0 or self.crop is not None

    def network_side(self, side: int) -> int:
        """Returns the side in pixels of what the network is given, for images of `side`."""
        return self.crop or side


@dataclass(frozen=True, slots=True)
class Draws:
    """What was drawn for each image of an epoch, by position."""

    angle: Float[np.ndarray, " position"]
    """Radians, anticlockwise on the screen."""
    zoom: Float[np.ndarray, " position"]
    shift_x: Float[np.ndarray, " position"]
    """Share of the side, to the right; with crops where the crop begins, in whole pixels."""
    shift_y: Float[np.ndarray, " position"]
    """Share of the side, downwards; with crops where the crop begins, in whole pixels."""
    mirrored: Float[np.ndarray, " position"]
    """1 where the image is mirrored, else 0."""

    def at(self, chosen: Int[np.ndarray, " picture"]) -> "Draws":
        """Returns the draws of the chosen positions."""
        return Draws(
            self.angle[chosen],
            self.zoom[chosen],
            self.shift_x[chosen],
            self.shift_y[chosen],
            self.mirrored[chosen],
        )


def draw(params: Params, count: int, rng: np.random.Generator, *, side: int) -> Draws:
    """
    Draws for `count` positions of images of `side` pixels.

    The first positions stay the same whatever `count` is.

    Raises:
        BadParams: The crop is larger than the image.
    """
    uniform = rng.random((count, 5), dtype=np.float32)
    centred = 2 * uniform[:, :4] - 1
    shift = centred[:, 2:4] * params.shift
    if params.crops:
        places = side + 2 * params.pad - params.network_side(side) + 1
        if params.network_side(side) > side:
            raise BadParams(
                f"augment.crop is {params.crop}, and the images have {side} pixels: evaluation "
                "takes their middle. Choose a smaller crop."
            )
        shift = np.minimum(np.floor(uniform[:, 2:4] * places), places - 1) - params.pad
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

    An image is mirrored, zoomed by $z$, turned by $a$ and then shifted by $t$ (in shares of the
    side, so $2t$ here); `affine_grid` wants the inverse,

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
) -> Float[Tensor, "batch 3 height width"]:
    """Returns augmented images less the mean of each channel; the affine map is bilinear."""
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
    """Returns the middle of images that are larger than `side` pixels; others as they are."""
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
    near = _reflected if params.outside == "reflect" else _clamped
    places = torch.arange(len(images), device=images.device)[:, None, None]
    found = images[places, near(rows, height)[:, :, None], near(columns, width)[:, None, :]]
    result = scale(found).sub_(mean[:, None, None])
    if params.outside not in ("border", "reflect"):
        outside = ((rows < 0) | (rows >= height))[:, :, None] | (
            (columns < 0) | (columns >= width)
        )[:, None, :]
        fill = _fill(params, mean)
        result = torch.where(outside[:, None], 0.0 if fill is None else fill, result)
    return result.contiguous(memory_format=torch.channels_last)


def _fill(params: Params, mean: Float[Tensor, "3"]) -> Float[Tensor, "3 1 1"] | None:
    """The colour outside, less the mean; None where that is zero or there is no such colour."""
    level = {"grey": 0.5, "black": 0.0}.get(params.outside)
    return None if level is None else (level - mean)[:, None, None]


def _clamped(places: Tensor, size: int) -> Tensor:
    return places.clamp(0, size - 1)


def _reflected(places: Tensor, size: int) -> Tensor:
    """Positions outside count back from the edge pixel, which is not repeated."""
    return size - 1 - (size - 1 - places.abs()).abs()
