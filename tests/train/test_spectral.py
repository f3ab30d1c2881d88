"""Spectral clustering: K-means against scikit-learn, labels without confusion."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from tests.train.confusions import M6, blocks
from train.errors import BadHierarchy
from train.grouping import spectral
from train.grouping.partition import affinity


@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
@settings(max_examples=15, deadline=None)
def test_k_means_is_as_tight_as_that_of_scikit_learn(seed, clusters):
    """The sum of squares is at most 5 % above that of 20 random starts in scikit-learn."""
    points = np.random.default_rng(seed).normal(size=(30, clusters))
    owners = spectral.k_means(points, clusters=clusters)
    spread = sum(
        ((points[owners == one] - points[owners == one].mean(axis=0)) ** 2).sum()
        for one in set(owners.tolist())
    )

    assert clusters == len(set(owners.tolist()))
    assert spread <= 1.05 * KMeans(clusters, n_init=20, random_state=0).fit(points).inertia_


def test_three_clusters_of_m6():
    """Spectral clustering of M6 gives {0, 1, 2}, {3, 4} and {5}."""
    weights = affinity(M6)

    assert [[0, 1, 2], [3, 4], [5]] == spectral.groups(weights, clusters=3)
    # The affinity is 1 - D: D_01 = .825, D_34 = .785, D_05 = .99.
    assert np.allclose([0.175, 0.215, 0.01], [weights[0, 1], weights[3, 4], weights[0, 5]])


def test_spectral_says_how_many_labels_stand_alone():
    """If more labels lack confusion than clusters allow, the error has both numbers."""
    matrix = np.eye(7)
    matrix[:4, :4] = blocks([2, 2])

    with pytest.raises(BadHierarchy, match="3 of 7 labels are never confused"):
        spectral.groups(affinity(matrix), clusters=3)
