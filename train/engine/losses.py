"""
What a network learns by: a number for a part of a batch, the sum over its images.

A `Task` names its loss; `trainer` divides the sum by the weight of the whole batch.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import torch.nn.functional as F  # noqa: N812  # the name that all of torch's documentation uses
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Counting:
    """How images and outputs count."""

    weights: Float[Tensor, " output"] | None
    """Of each output; None: all count one."""
    label_smoothing: float
    """Share of the target spread over all outputs."""
    share: float
    """Weight of all images of the batch, divided among the processes: what a number that is known
    of the whole batch is multiplied by to be a sum over images."""


class Loss(Protocol):
    """From what a network returns and the true outputs to the sum of the images' losses."""

    def __call__(
        self, output: Any, targets: Int[Tensor, " batch"], counting: Counting
    ) -> Float[Tensor, ""]:
        """Returns the sum; an image counts with the weight of its target."""
        ...


def logits_of(output: Any) -> Float[Tensor, "batch output"]:
    """Returns the logits of a network that may return something beside them, in float32."""
    logits: Tensor = output[0] if isinstance(output, tuple) else output
    return logits.float()


def cross_entropy(
    output: Any, targets: Int[Tensor, " batch"], counting: Counting
) -> Float[Tensor, ""]:
    """Returns the cross-entropy of the logits; what stands beside them is not looked at."""
    return F.cross_entropy(
        logits_of(output),
        targets,
        weight=counting.weights,
        reduction="sum",
        label_smoothing=counting.label_smoothing,
    )
