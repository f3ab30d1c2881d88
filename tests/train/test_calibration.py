"""Calibration: worked values, agreement with scikit-learn and torchmetrics, temperatures."""

import math

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given
from hypothesis import strategies as st

from train.backbone import vision
from train.evaluation import calibration


@pytest.fixture(scope="module")
def calibration_error():
    """Returns torchmetrics' function; it imports torchvision, which loads in its own way."""
    vision.torchvision()
    from torchmetrics.functional.classification import multiclass_calibration_error

    return multiclass_calibration_error


@st.composite
def predictions(draw, least=2):
    leaves = draw(st.integers(2, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(max(least, leaves), 60))
    labels = np.concatenate([np.arange(leaves), rng.integers(leaves, size=count - leaves)])
    return labels, rng.dirichlet(np.ones(leaves), size=count)


def test_calibration_error_of_the_worked_example():
    """Five bins give 0.191667."""
    confidences = np.array([0.95, 0.9, 0.85, 0.6, 0.55, 0.3])
    correct = np.array([1, 1, 0, 1, 0, 0], dtype=bool)

    assert math.isclose(0.191667, calibration.ece(confidences, correct, bins=5), abs_tol=1e-6)
    assert math.isnan(calibration.ece(confidences[:0], correct[:0]))


def test_calibrated_predictions_have_little_error():
    """20,000 images with an accuracy equal to their confidence have an error below 0.02."""
    rng = np.random.default_rng(0)
    confidences = rng.uniform(0.1, 1, size=20_000)

    assert calibration.ece(confidences, rng.uniform(size=20_000) < confidences) < 0.02


def test_bins_hold_counts_and_means():
    """A confidence on an edge is in the lower bin; an empty bin has NaN."""
    bins = calibration.reliability(np.array([0.5, 0.4, 0.9]), np.array([True, False, True]), bins=4)

    assert [0, 2, 0, 1] == bins.images.tolist()
    assert [0.45, 0.9] == pytest.approx(bins.confidence[bins.images > 0].tolist())
    assert [0.5, 1.0] == bins.accuracy[bins.images > 0].tolist()
    assert np.isnan(bins.accuracy[0])


def test_brier_score_of_the_worked_example():
    """(.7, .2, .1) of label 0 costs .14, (.1, .6, .3) of label 2 costs .86; the mean is 0.5."""
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]])

    assert 0.5 == pytest.approx(calibration.brier(probabilities, np.array([0, 2])))
    assert math.isnan(calibration.brier(probabilities[:0], np.array([], dtype=int)))


@given(predictions())
def test_scores_equal_those_of_scikit_learn(given_predictions):
    """NLL is scikit-learn's log loss; the Brier score its squared error, summed over labels."""
    labels, probabilities = given_predictions
    leaves = probabilities.shape[1]
    squared = sklearn.metrics.mean_squared_error(np.eye(leaves)[labels], probabilities)

    assert math.isclose(
        sklearn.metrics.log_loss(labels, probabilities, labels=range(leaves)),
        calibration.nll(probabilities, labels),
        rel_tol=1e-9,
    )
    assert math.isclose(leaves * squared, calibration.brier(probabilities, labels), rel_tol=1e-9)


@given(given_predictions=predictions())
def test_error_equals_that_of_torchmetrics(calibration_error, given_predictions):
    """The expected calibration error is that of torchmetrics, with as many bins."""
    labels, probabilities = given_predictions
    confidences, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    expected = calibration_error(
        torch.from_numpy(probabilities),
        torch.from_numpy(labels),
        num_classes=probabilities.shape[1],
        n_bins=15,
    )

    assert expected.item() == pytest.approx(calibration.ece(confidences, correct), abs=1e-6)


@given(predictions(), st.floats(0.1, 10))
def test_temperature_is_that_of_divided_logits(given_predictions, temperature):
    """Probabilities at a temperature are the softmax of the logits divided by it."""
    _, probabilities = given_predictions
    expected = torch.softmax(torch.from_numpy(np.log(probabilities)) / temperature, dim=1)
    scaled = calibration.at_temperature(probabilities, temperature)

    assert np.allclose(expected.numpy(), scaled, atol=1e-9)
    assert (scaled.argmax(axis=1) == probabilities.argmax(axis=1)).all()


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_fitted_temperature_is_the_one_that_was_applied(true):
    """Labels drawn from softmax(z / T), with predictions softmax(z), give T back, within 5 %."""
    rng = np.random.default_rng(3)
    logits = torch.from_numpy(rng.normal(0, 3, (20_000, 5)))
    drawn = torch.softmax(logits / true, dim=1)
    labels = torch.multinomial(drawn, 1, generator=torch.Generator().manual_seed(1))[:, 0].numpy()
    probabilities = torch.softmax(logits, dim=1).numpy()
    fitted = calibration.fit_temperature(probabilities, labels)

    assert true == pytest.approx(fitted, rel=0.05)
    assert calibration.nll(calibration.at_temperature(probabilities, fitted), labels) <= (
        calibration.nll(probabilities, labels) + 1e-9
    )


def test_temperature_of_routed_predictions_is_finite():
    """Zeros outside the route stay zeros, and a label among them does not break the search."""
    probabilities = np.array([[0.9, 0.1, 0.0], [0.0, 0.0, 1.0], [0.6, 0.4, 0.0]])
    labels = np.array([0, 0, 1])
    fitted = calibration.fit_temperature(probabilities, labels)
    scaled = calibration.at_temperature(probabilities, fitted)

    assert 0.05 <= fitted <= 20
    assert ((scaled == 0) == (probabilities == 0)).all()
    assert np.allclose(1, scaled.sum(axis=1))
    assert 1.0 == calibration.fit_temperature(probabilities[:0], labels[:0])
