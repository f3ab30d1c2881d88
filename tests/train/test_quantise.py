"""Product quantisation: factors, worked values, k-means, layers in place."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from torch import nn

from personae.errors import BadParams
from train.methods.hdcnn import quantise

WORKED = np.array([[1, 0, 2, 2], [1, 0, 0, 1], [0, 1, 2, 2], [0, 1, 0, 1]], dtype=float)


def of_shape(rows, columns, codebook, width):
    """Builds a quantised matrix of zeros with this shape."""
    indices = np.zeros((rows, -(-columns // width)), dtype=int)
    return quantise.Quantised(np.zeros((codebook, columns)), indices, width)


@pytest.mark.parametrize(
    ("rows", "columns", "codebook", "width", "factor"),
    [
        (192, 2400, 64, 2, 2.181818),
        (192, 1728, 64, 3, 2.4),
        (192, 192, 64, 2, 2.181818),
        (192, 192, 32, 2, 3.428571),
        (1000, 1000, 64, 2, 5.291005),
    ],
)
def test_factors_of_the_paper(rows, columns, codebook, width, factor):
    """The factors of conv2, conv3 and cccp and of the general example equal the published ones."""
    found = of_shape(rows, columns, codebook, width)

    assert np.isclose(factor, found.factor, atol=1e-6)


def test_worked_matrix_is_exact():
    """Two centres of width 2 store the example without loss, in 320 of 512 bits."""
    found = quantise.quantise(WORKED, codebook=2, width=2)

    assert np.array_equal(WORKED, found.restored())
    assert 320 == found.bits
    assert np.isclose(512 / 320, found.factor)


def test_worked_loss():
    """Four rows in two clusters have centres (2, 0) and (11, 10) and squared error 4."""
    rows = np.array([[1, 0], [3, 0], [10, 10], [12, 10]], dtype=float)
    found = quantise.quantise(rows, codebook=2, width=2)

    assert [[2, 0], [11, 10]] == sorted(found.centres.tolist())
    assert 4.0 == ((rows - found.restored()) ** 2).sum()


@given(
    rows=st.integers(1, 12),
    columns=st.integers(1, 7),
    width=st.integers(1, 4),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=30, deadline=None)
def test_as_many_centres_as_rows_lose_nothing(rows, columns, width, seed):
    """With k >= m the matrix is restored exactly, for any segment width and repeated rows."""
    matrix = np.random.default_rng(seed).integers(0, 3, size=(rows, columns)).astype(float)

    found = quantise.quantise(matrix, codebook=12, width=width)

    assert np.array_equal(matrix, found.restored())


@given(seed=st.integers(0, 2**16), codebook=st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_more_centres_never_lose_more_than_one(seed, codebook):
    """The error is at most that of the mean row, and each row has its nearest centre."""
    matrix = np.random.default_rng(seed).normal(size=(20, 4))
    found = quantise.quantise(matrix, codebook=codebook, width=2)
    error = ((matrix - found.restored()) ** 2).sum()

    assert error <= ((matrix - matrix.mean(axis=0)) ** 2).sum() + 1e-9
    for segment, start in enumerate((0, 2)):
        gaps = matrix[:, None, start : start + 2] - found.centres[None, :, start : start + 2]
        squares = (gaps**2).sum(axis=2)
        own = squares[np.arange(20), found.indices[:, segment]]
        assert np.allclose(squares.min(axis=1), own)


def test_errors_are_those_of_scikit_learn():
    """Over many segments the squared error is within 2 % of scikit-learn's with equal starts."""
    matrix = np.random.default_rng(5).normal(size=(48, 24))
    found = quantise.quantise(matrix, codebook=8, width=2)
    reference = sum(
        KMeans(8, n_init=10, random_state=0).fit(matrix[:, start : start + 2]).inertia_
        for start in range(0, 24, 2)
    )

    assert ((matrix - found.restored()) ** 2).sum() <= 1.02 * reference


def test_empty_clusters_are_repaired():
    """A centre far from every point moves to the farthest point of a cluster with several."""
    points = np.array([[[0.0], [1.0], [10.0], [11.0]]])
    centres, owners, errors = quantise._converged(points, np.array([[[5.0], [99.0]]]))

    assert [0.5, 10.5] == sorted(centres[0, :, 0].tolist())
    assert 2 == len(set(owners[0].tolist()))
    assert [1.0] == errors.tolist()


def test_same_seed_gives_the_same_centres():
    """Two calls with the same seed give bit-identical centres."""
    matrix = np.random.default_rng(1).normal(size=(30, 10))
    first, second = (quantise.quantise(matrix, codebook=6, width=3) for _ in range(2))

    assert np.array_equal(first.centres, second.centres)
    assert np.array_equal(first.indices, second.indices)


def test_layers_are_compressed_in_place():
    """Convolutions and dense layers change; the last layer, norms and small layers do not."""
    torch.manual_seed(0)
    module = nn.Sequential()
    module.add_module("conv", nn.Conv2d(8, 64, 3))
    module.add_module("norm", nn.BatchNorm2d(64))
    module.add_module("small", nn.Conv2d(8, 4, 1))
    module.add_module("predictions", nn.Linear(64, 5))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    told = quantise.storage(module, codebook=8, width=2)
    storage = quantise.compress(module, codebook=8, width=2)
    changed = [n for n, tensor in module.state_dict().items() if not torch.equal(before[n], tensor)]
    numbers = sum(weight.numel() for weight in module.parameters())
    kept = numbers - 64 * 72

    assert storage == told
    assert ["conv.weight"] == changed
    assert 4 * numbers == storage.bytes_before
    assert 4 * kept + (32 * 8 * 72 + 8 * 64 * 36) // 8 == storage.bytes_after
    assert np.isclose(storage.bytes_before / storage.bytes_after, storage.factor)


@pytest.mark.parametrize("codebook", [0, 257])
def test_eight_bits_name_256_centres(codebook):
    """Zero centres and more than 256 centres are refused."""
    with pytest.raises(BadParams, match="1 to 256 centres"):
        quantise.quantise(WORKED, codebook=codebook, width=2)
