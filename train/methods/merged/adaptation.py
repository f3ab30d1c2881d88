"""
Classifier adaptation: makes the probabilities of categories and of their labels agree at test time.

The probability of a category should equal the sum of those of its labels (eq. 1 of the source).
Adaptation moves each towards the other; they agree exactly at alpha = 1, and at alpha = 2 they have
swapped. It needs only the probabilities of two classifiers for an image, and no training.

Source: Dutt, Pellerin and Quénot, Improving Hierarchical Image Classification with Merged CNN
Architectures, CBMI 2017, section 3.2 and algorithm 1.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

GRID = tuple(step / 10 for step in range(21))
"""Values of alpha to choose from: 0, 0.1, ..., 2."""
_ZERO = 1e-12  # a smaller Q(i) counts as zero: the order of its labels is only rounding


def sums(
    fine: Float[Tensor, "image label"],
    parents: Int[Tensor, " label"],
    *,
    categories: int,
) -> Float[Tensor, "image category"]:
    r"""
    Returns $Q(i) = \sum_{s(j) = i} P_f(j)$, the sum of the label probabilities of each category.

    Args:
        fine: P_f, the probabilities of the labels.
        parents: s, the category of each label.
        categories: Number of categories.

    Example:
        fine (.20, .10, .25, .25, .15, .05) with parents (0, 0, 1, 1, 2, 2): (.3, .5, .2).
    """
    return fine @ _members(parents, categories).to(fine.dtype)


def adapt_coarse(
    coarse: Float[Tensor, "image category"],
    fine: Float[Tensor, "image label"],
    parents: Int[Tensor, " label"],
    *,
    alpha: float | Tensor,
) -> Float[Tensor, "image category"]:
    r"""
    Returns $(1 - \alpha/2)\,P_c(i) + (\alpha/2)\,Q(i)$.

    alpha in 0..2: 0 leaves P_c, 1 gives the mean of P_c and Q, 2 gives Q.

    Example:
        coarse (.5, .3, .2) with the sums (.3, .5, .2) and alpha 1: (.4, .4, .2).
    """
    share = alpha / 2
    return (1 - share) * coarse + share * sums(fine, parents, categories=coarse.shape[1])


def adapt_fine(
    coarse: Float[Tensor, "image category"],
    fine: Float[Tensor, "image label"],
    parents: Int[Tensor, " label"],
    *,
    alpha: float | Tensor,
) -> Float[Tensor, "image label"]:
    r"""
    Returns $P_f(j) \left[(1 - \alpha/2) + (\alpha/2)\,P_c(i)/Q(i)\right]$ with $i = s(j)$.

    alpha in 0..2: 0 leaves P_f. With 1 the labels of category i sum to the mean of P_c(i) and Q(i),
    with 2 to P_c(i): then the result is P(category) P(label | category). The order of the labels
    of a category never changes. Where Q(i) is zero, its n_i labels get equal shares.

    Differs from the paper:
        With Q(i) = 0 each label of category i gets alpha P_c(i) / (2 n_i), so that rows sum to one
        for every alpha. Algorithm 1 of the paper gives (1 - alpha/2) P_c(i) / n_i, with which rows
        sum to one only for alpha = 1.

    Example:
        coarse (.5, .3, .2), fine (.20, .10, .25, .25, .15, .05) and alpha 1: (.266667, .133333, .2,
        .2, .15, .05).
    """
    share = alpha / 2
    totals = sums(fine, parents, categories=coarse.shape[1])
    empty = totals < _ZERO
    factors = (1 - share) + share * coarse / totals.masked_fill(empty, 1.0)
    sizes = _members(parents, coarse.shape[1]).sum(dim=0)
    even = share * (coarse + totals) / sizes.clamp(min=1)
    return torch.where(empty[:, parents], even[:, parents], fine * factors[:, parents])


def disagreement(
    coarse: Float[Tensor, "image category"],
    fine: Float[Tensor, "image label"],
    parents: Int[Tensor, " label"],
) -> Float[Tensor, " image"]:
    r"""
    Returns the total variation $\frac{1}{2} \sum_i |P_c(i) - Q(i)|$ of each image, in 0..1.

    Example:
        P_c = (.5, .3, .2), Q = (.3, .5, .2): 0.2.
    """
    totals = sums(fine, parents, categories=coarse.shape[1])
    return (coarse - totals).abs().sum(dim=1) / 2


@dataclass(frozen=True, slots=True)
class AlphaAccuracy:
    """Accuracies at one value of alpha, as shares of the images."""

    alpha: float
    coarse: float
    """Accuracy of the adapted categories."""
    fine: float
    """Accuracy of the adapted labels."""


def curve(
    coarse: Float[Tensor, "image category"],
    fine: Float[Tensor, "image label"],
    labels: Int[Tensor, " image"],
    parents: Int[Tensor, " label"],
) -> list[AlphaAccuracy]:
    """Returns both accuracies at every alpha of GRID; ties go to the lower index."""
    points = []
    for alpha in GRID:
        categories = adapt_coarse(coarse, fine, parents, alpha=alpha).argmax(dim=1)
        leaves = adapt_fine(coarse, fine, parents, alpha=alpha).argmax(dim=1)
        coarse_accuracy = float((categories == parents[labels]).double().mean())
        fine_accuracy = float((leaves == labels).double().mean())
        points.append(AlphaAccuracy(alpha, coarse_accuracy, fine_accuracy))
    return points


def chosen(points: list[AlphaAccuracy]) -> tuple[float, float]:
    """
    Returns the alpha with the highest accuracy of the categories, and that of the labels.

    Ties go to the alpha nearest to 1 (full agreement), then to the lower alpha.
    """
    coarse = min(points, key=lambda point: (-point.coarse, abs(point.alpha - 1), point.alpha))
    fine = min(points, key=lambda point: (-point.fine, abs(point.alpha - 1), point.alpha))
    return coarse.alpha, fine.alpha


def _members(parents: Int[Tensor, " label"], categories: int) -> Bool[Tensor, "label category"]:
    return parents[:, None] == torch.arange(categories, device=parents.device)
