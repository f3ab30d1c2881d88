"""The images of an epoch: equal shares of labels, fixed and resampled."""

import numpy as np

from personae.sampling import quotas
from train.data import sampling
from train.runtime import seeds


def test_balanced_draws_of_the_worked_example():
    """Clusters of 3, 2 and 1 labels with 100 images each give 34/33/33, 50/50 and 100 images."""
    labels = np.repeat(np.arange(6), 100)
    sampler = sampling.by_class(labels, [[0, 1, 2], [3, 4], [5]], balance="resample")
    rows = sampler.draw(fixed=seeds.seed(0), epoch=seeds.seed(1))
    counts = np.bincount(labels[rows], minlength=6)

    assert 300 == len(rows) == sampler.epoch_images
    assert 600 == sampler.images
    assert [33, 33, 34] == sorted(counts[:3].tolist())
    assert [50, 50, 100] == counts[3:].tolist()
    assert len(set(rows.tolist())) == 300


def test_fixed_draws_repeat_and_resampled_ones_do_not():
    """`fixed` uses the same images in each epoch, in another order; `resample` uses others."""
    labels = np.array([0] * 50 + [1] * 10)
    shown = {}
    for balance in ("fixed", "resample"):
        sampler = sampling.by_label(labels, [0, 1], balance=balance)
        shown[balance] = [
            sampler.draw(fixed=seeds.seed("f"), epoch=seeds.seed(epoch)).tolist()
            for epoch in range(2)
        ]

    assert sorted(shown["fixed"][0]) == sorted(shown["fixed"][1])
    assert shown["fixed"][0] != shown["fixed"][1]
    assert sorted(shown["resample"][0]) != sorted(shown["resample"][1])


def test_scarce_label_is_made_up_for():
    """A label with too few images gives all of them, and the other labels fill its share."""
    assert [10, 45, 45] == quotas([10, 200, 200], 100)
    assert [34, 33, 33] == quotas([100, 100, 100], 100)
