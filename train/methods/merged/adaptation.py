"""
Agreement of what is said of categories and of their labels, made at test time (methods.md 3.2).

A coarse and a fine softmax should agree: the probability of a category is the sum of those of its
labels. Adaptation moves both towards agreement, image by image, without training; it needs
nothing but probabilities, whichever classifiers they come from.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

GRID = tuple(step / 10 for step in range(21))
"""Values of alpha among which validation chooses."""
_ZERO = 1e-12  # of a category's labels together: below it they have no order to keep


def sums(
    fine: Float[Tensor, "image label"],
    parents: Int[Tensor, " label"],
    *,
    categories: int,
) -> Float[Tensor, "image category"]:
    """
    Returns Q(i), the probabilities of the labels of each category together.

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

    alpha 0 changes nothing, 1 gives the mean of the two, 2 what the labels say alone.

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

    alpha 0 changes nothing, 1 makes the labels of a category sum up to the mean of P_c and Q, 2 to
    P_c: the product of the category's probability and the label's in it. The order of labels in a
    category never changes. Where Q(i) is zero the n_i labels of i share the mass evenly.

    Source: Dutt and others, algorithm 1 (methods.md 3.2).

    Differs:
        With Q(i) = 0 a label gets alpha T(i) / n_i, T being the mean of P_c and Q. The printed rule
        gives it coarse'(i) / n_i, with which the row does not sum to one unless alpha is 1.

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
) -> Float[Tensor, " picture"]:
    """
    Returns the mass in 0..1 that would have to move for P_c to equal Q (total variation).

    Example:
        P_c = (.5, .3, .2), Q = (.3, .5, .2): 0.2.
    """
    totals = sums(fine, parents, categories=coarse.shape[1])
    return (coarse - totals).abs().sum(dim=1) / 2


@dataclass(frozen=True, slots=True)
class Point:
    """Share of images with the right category, and with the right label, at one alpha."""

    alpha: float
    coarse: float
    fine: float


def curve(
    coarse: Float[Tensor, "image category"],
    fine: Float[Tensor, "image label"],
    labels: Int[Tensor, " picture"],
    parents: Int[Tensor, " label"],
) -> list[Point]:
    """Returns both accuracies at every alpha of GRID; ties go to the lower category or label."""
    found = []
    for alpha in GRID:
        categories = adapt_coarse(coarse, fine, parents, alpha=alpha).argmax(dim=1)
        leaves = adapt_fine(coarse, fine, parents, alpha=alpha).argmax(dim=1)
        right = (categories == parents[labels], leaves == labels)
        found.append(Point(alpha, *(float(one.double().mean()) for one in right)))
    return found


def chosen(points: list[Point]) -> tuple[float, float]:
    """
    Returns the alpha of the highest accuracy, for categories and for labels.

    Of several that are equally good the one nearest to 1, full agreement, is taken; of two at the
    same distance the lower.
    """
    coarse = min(points, key=lambda point: (-point.coarse, abs(point.alpha - 1), point.alpha))
    fine = min(points, key=lambda point: (-point.fine, abs(point.alpha - 1), point.alpha))
    return coarse.alpha, fine.alpha


def _members(parents: Int[Tensor, " label"], categories: int) -> Bool[Tensor, "label category"]:
    return parents[:, None] == torch.arange(categories, device=parents.device)
