"""Overlapping label sets, and untrained HD-CNNs over them."""

import numpy as np
import torch

from train import backbone
from train.data import augment
from train.tree import hierarchy

COVER = ((0, 1, 2), (2, 3, 4), (5,))
TINY = ((0, 1, 2), (1, 2, 3), (3,))
RESNET = backbone.Params(name="resnet20", width=0.25)
NIN = backbone.Params(name="nin", width=0.05, dropout=0.0, init="he")


def build(make_classifier, cover=TINY, leaves=4, *, network=RESNET, **own):
    """Builds an untrained classifier over `cover`."""
    tree = hierarchy.from_cover(cover, leaves)
    return make_classifier("hdcnn", tree, network=network, **own).eval()


def inputs_of(data, rows=range(16)):
    """Returns training images as network inputs."""
    return augment.scale(data.train.batch(np.array(list(rows))))


def spread(classifier, seed=0, std=3.0):
    """Makes the outputs of the components differ between images and between components."""
    torch.manual_seed(seed)
    for part in (classifier.network.coarse, *classifier.network.fine.values()):
        torch.nn.init.normal_(part.head.predictions.weight, std=std)
    return classifier
