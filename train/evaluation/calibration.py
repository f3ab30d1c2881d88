r"""
Calibration of probabilities: NLL, Brier score, expected calibration error, temperature scaling.

`probabilities` has one row for each image, in leaf order; `labels` are leaves. A mean over no images
is NaN. docs/methods/evaluation.md has every formula.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

_SMALLEST = 1e-12  # smaller probabilities count as this one, so that the NLL is finite
_TEMPERATURES = (0.05, 20.0)  # bounds of the search; beyond them the NLL hardly changes


def nll(
    probabilities: Float[np.ndarray, "image label"], labels: Int[np.ndarray, " image"]
) -> float:
    """
    Returns the mean negative log-likelihood of the true labels, in nats.

    A routed prediction gives most labels the probability zero; a probability below 1e-12 counts as
    1e-12.
    """
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(np.mean(-np.log(np.maximum(chosen, _SMALLEST)))) if len(labels) else float("nan")


def brier(
    probabilities: Float[np.ndarray, "image label"], labels: Int[np.ndarray, " image"]
) -> float:
    r"""
    Returns the Brier score: the mean over images of the squared distance to the true distribution.

    $$\frac{1}{n} \sum_i \sum_j (p_{ij} - [j = y_i])^2$$

    It is 0 for certain and correct predictions, and 2 for certain and wrong ones (Brier 1950,
    "Verification of forecasts expressed in terms of probability", eq. 2).

    Example:
        Probabilities (.7, .2, .1) of label 0 and (.1, .6, .3) of label 2 give 0.5.
    """
    if not len(labels):
        return float("nan")
    exact = probabilities.astype(np.float64)
    chosen = exact[np.arange(len(labels)), labels]
    return float(np.mean((exact**2).sum(axis=1) - 2 * chosen + 1))


@dataclass(frozen=True, slots=True)
class ReliabilityBins:
    """Images sorted into bins of equal width by their confidence; an empty bin has NaN means."""

    images: Int[np.ndarray, " bin"]
    confidence: Float[np.ndarray, " bin"]
    """Mean probability of the predicted label."""
    accuracy: Float[np.ndarray, " bin"]


def reliability(
    confidences: Float[np.ndarray, " image"], correct: Bool[np.ndarray, " image"], *, bins: int = 15
) -> ReliabilityBins:
    """Returns images, mean confidence and accuracy of `bins` bins, which are closed on the right."""
    # 1e-9: a confidence on the edge of two bins, up to rounding, belongs to the lower bin.
    bin_of = np.clip(np.ceil(confidences * bins - 1e-9).astype(int) - 1, 0, bins - 1)
    images = np.bincount(bin_of, minlength=bins)
    hits = np.bincount(bin_of, weights=correct.astype(np.float64), minlength=bins)
    trust = np.bincount(bin_of, weights=confidences.astype(np.float64), minlength=bins)
    divisor = np.where(images > 0, images, np.nan)
    return ReliabilityBins(images, trust / divisor, hits / divisor)


def ece(
    confidences: Float[np.ndarray, " image"], correct: Bool[np.ndarray, " image"], *, bins: int = 15
) -> float:
    r"""
    Returns the expected calibration error over `bins` bins of equal width, closed on the right.

    $$\sum_b \frac{n_b}{n} \left| acc_b - conf_b \right|$$

    with $n_b$ images in bin $b$, their accuracy $acc_b$ and their mean confidence $conf_b$ (Guo et
    al. 2017, "On calibration of modern neural networks", eq. 3).

    Example:
        Five bins, confidences .95 .9 .85 .6 .55 .3, correct 1 1 0 1 0 0 give 0.191667.
    """
    if not len(confidences):
        return float("nan")
    sorted_images = reliability(confidences, correct, bins=bins)
    gaps = sorted_images.images * np.abs(sorted_images.accuracy - sorted_images.confidence)
    return float(np.nansum(gaps) / len(confidences))


def at_temperature(
    probabilities: Float[np.ndarray, "image label"], temperature: float
) -> Float[np.ndarray, "image label"]:
    """
    Returns each probability to the power 1 / temperature, divided by the sum of its row.

    These are the probabilities of logits divided by the temperature, because a softmax of logits
    determines them up to a constant. A probability of zero stays zero, and the order of the labels
    stays as it is.
    """
    exact = probabilities.astype(np.float64)
    powers = (exact / exact.max(axis=1, keepdims=True)) ** (1 / temperature)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def fit_temperature(
    probabilities: Float[np.ndarray, "image label"], labels: Int[np.ndarray, " image"]
) -> float:
    """
    Returns the temperature, from 0.05 to 20, with the least NLL on these images.

    Choose it on validation images and apply it to test images (Guo et al. 2017, section 4.2).
    Without images it is 1. The NLL is convex in 1 / temperature, so that it has one minimum.
    """
    from scipy import optimize  # takes most of a second to import

    if not len(labels):
        return 1.0
    result = optimize.minimize_scalar(
        lambda exponent: nll(at_temperature(probabilities, math.exp(exponent)), labels),
        bounds=tuple(map(math.log, _TEMPERATURES)),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return math.exp(result.x)
