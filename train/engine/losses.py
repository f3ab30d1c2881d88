"""
Training losses: the sum over the images of a batch, or of a part of a batch.

A `Task` names its loss. `trainer` divides the sum by the weight of the whole batch.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch.nn.functional as F  # noqa: N812  # the name that all of torch's documentation uses
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Counting:
    """The weights of images and outputs in a loss."""

    weights: Float[Tensor, " output"] | None
    """Class weight of each output; None: 1 for all."""
    label_smoothing: float
    """Share of the target distribution that is spread over all outputs."""
    share: float
    """Weight of the whole batch / number of processes. A loss term that is a mean over the batch is
    multiplied by it to become a sum over images."""
    progress: float = 0.0
    """Share of the schedule before this update, from 0 to 1."""


@runtime_checkable
class Loss(Protocol):
    """A loss: from a network's output and the target outputs to the sum over the images."""

    def __call__(
        self, output: Any, targets: Int[Tensor, " batch"], counting: Counting
    ) -> Float[Tensor, ""]:
        """Returns the sum; each image is weighted by the class weight of its target."""
        ...


def logits_of(output: Any) -> Float[Tensor, "batch output"]:
    """Returns the logits in float32: the output, or its first item if the network returns a tuple."""
    logits: Tensor = output[0] if isinstance(output, tuple) else output
    return logits.float()


def cross_entropy(
    output: Any, targets: Int[Tensor, " batch"], counting: Counting
) -> Float[Tensor, ""]:
    """Returns the cross-entropy of the logits, summed over the images."""
    return F.cross_entropy(
        logits_of(output),
        targets,
        weight=counting.weights,
        reduction="sum",
        label_smoothing=counting.label_smoothing,
    )
