"""
The merged network and its loss: two branches on shared blocks, trained on the sum of their losses.

Source: Dutt, Pellerin and Quénot, Improving Hierarchical Image Classification with Merged CNN
Architectures, CBMI 2017, section 3.4.
"""

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F  # noqa: N812  # the name in torch's documentation
from jaxtyping import Float, Int
from torch import Tensor, nn

from train.backbone import Branch
from train.engine import losses
from train.engine.losses import Counting


class Merged(nn.Module):
    """Shared blocks, then a branch over the labels and a branch over the categories."""

    def __init__(
        self, stem: nn.Module, fine: Branch, coarse: Branch | None, *, stop_gradient: bool
    ) -> None:
        """
        Takes over the parts.

        Args:
            stem: The shared blocks.
            fine: The branch over the labels.
            coarse: The branch over the categories; None if there is only one category.
            stop_gradient: Whether the shared blocks get no gradient from the coarse branch.
        """
        super().__init__()
        self.stem, self.fine, self.coarse = stem, fine, coarse
        self.stop_gradient = stop_gradient

    def forward(
        self, x: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch leaf"], Float[Tensor, "batch cluster"]]:
        """Returns the logits of the labels and the logits of the categories."""
        maps = self.stem(x)
        fine: Tensor = self.fine(maps)
        if self.coarse is None:
            return fine, fine.new_zeros(len(fine), 1)
        return fine, self.coarse(maps.detach() if self.stop_gradient else maps)


@dataclass(frozen=True, slots=True)
class BothLosses:
    r"""$CE_{fine} + w CE_{coarse}$: the cross-entropy of the labels and of the categories."""

    parents: Int[Tensor, " leaf"]
    """Category of each label."""
    strength: float
    """w; 1 in the paper."""

    def __call__(
        self, output: Any, targets: Int[Tensor, " batch"], counting: Counting
    ) -> Float[Tensor, ""]:
        """Returns the sum over the images of the loss, each multiplied by the weight of its label."""
        labels = losses.cross_entropy(output, targets, counting)
        return labels + self.strength * self.of_categories(output[1].float(), targets, counting)

    def of_categories(
        self,
        logits: Float[Tensor, "batch cluster"],
        targets: Int[Tensor, " batch"],
        counting: Counting,
    ) -> Float[Tensor, ""]:
        """Returns the sum of the categories' cross-entropy, without the factor w."""
        categories = self.parents.to(targets.device)[targets]
        by_image = F.cross_entropy(
            logits, categories, reduction="none", label_smoothing=counting.label_smoothing
        )
        if counting.weights is not None:
            by_image = by_image * counting.weights[targets]
        return by_image.sum()
