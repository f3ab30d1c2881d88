"""
Pictures to network input, a batch at a time on the device: one affine grid does it all.

Rotation, zoom, shift and mirror of the report (methods.md 0.2). What is drawn for a picture depends
on seed, network, epoch and its position in the epoch alone.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # the name that all of torch's documentation uses
from jaxtyping import Float, UInt8
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor


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
        "lr", description="mirror half of the pictures: lr, the way we read the report; or ud"
    )
    outside: Literal["border", "mean"] = Field(
        "border", description="what fills the edge: the picture's border drawn out, or the mean"
    )


@dataclass(frozen=True, slots=True)
class Draws:
    """What was drawn for each picture of an epoch, by position."""

    angle: Float[np.ndarray, " position"]
    """Radians, anticlockwise on the screen."""
    zoom: Float[np.ndarray, " position"]
    shift_x: Float[np.ndarray, " position"]
    """Share of the side, to the right."""
    shift_y: Float[np.ndarray, " position"]
    """Share of the side, downwards."""
    mirrored: Float[np.ndarray, " position"]
    """1 where the picture is mirrored, else 0."""

    def at(self, start: int, stop: int) -> "Draws":
        """Returns the draws of the positions from `start` to before `stop`."""
        chosen = slice(start, stop)
        return Draws(
            self.angle[chosen], self.zoom[chosen], self.shift_x[chosen], self.shift_y[chosen],
            self.mirrored[chosen],
        )  # fmt: skip


def draw(params: Params, count: int, rng: np.random.Generator) -> Draws:
    """Draws for `count` positions; the first ones stay the same whatever `count` is."""
    uniform = rng.random((count, 5), dtype=np.float32)
    centred = 2 * uniform[:, :4] - 1
    return Draws(
        angle=centred[:, 0] * math.radians(params.rotation),
        zoom=1 + uniform[:, 1] * (params.zoom - 1),
        shift_x=centred[:, 2] * params.shift,
        shift_y=centred[:, 3] * params.shift,
        mirrored=(uniform[:, 4] < (0.0 if params.flip == "none" else 0.5)).astype(np.float32),
    )


def affine(draws: Draws, *, flip: str) -> Float[Tensor, "batch 2 3"]:
    r"""
    Returns the map from output to input positions, both in -1..1 with x to the right, y down.

    A picture is mirrored, zoomed by $z$, turned by $a$ and then shifted by $t$ (in shares of the
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
    """Returns augmented pictures less the mean of each channel, bilinear."""
    centred = scale(images) - mean[:, None, None]
    theta = affine(draws, flip=params.flip).to(centred)
    grid = F.affine_grid(theta, list(centred.shape), align_corners=False)
    padding = "border" if params.outside == "border" else "zeros"
    moved = F.grid_sample(centred, grid, mode="bilinear", padding_mode=padding, align_corners=False)
    return moved.contiguous(memory_format=torch.channels_last)
