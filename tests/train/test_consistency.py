"""The coarse category consistency term: worked values, gradient, targets, the trainer."""

import math

import numpy as np
import torch

from tests.train.covers import COVER
from train.data import sampling
from train.engine import loop, losses
from train.engine.task import Task
from train.methods.hdcnn.consistency import Consistency, targets

PARAMS = loop.Params(epochs=1, lr=0.05, threads=1, device="cpu")


def consistency_of(coarse):
    return Consistency(targets=(0.4, 0.4, 0.2), strength=5.0).term(coarse)


def test_worked_loss():
    """E of four images is .842219, the sum of .804719 and .0375."""
    coarse = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.2, 0.7, 0.1], [0.6, 0.1, 0.3]])
    said = torch.tensor([0.5, 0.4, 0.25, 0.8])
    logits, labels = torch.stack([said, 1 - said], dim=1).log(), torch.zeros(4, dtype=torch.long)
    counting = losses.Counting(share=4.0, label_smoothing=0.0, weights=None)
    loss = Consistency(targets=(0.4, 0.4, 0.2), strength=5.0)

    assert math.isclose(0.0375, loss.term(coarse).item(), abs_tol=1e-6)
    found = loss((logits, coarse), labels, counting).item()
    assert math.isclose(0.842219, found / 4, abs_tol=1e-6)


def test_gradient_of_the_consistency_term():
    """The gradient is -(lambda/n) (t_k - mean B_k), and finite differences confirm it."""
    torch.manual_seed(0)
    coarse = torch.rand(7, 3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(consistency_of(coarse), coarse)
    means = coarse.detach().mean(dim=0)
    formula = -5.0 / 7 * (torch.tensor([0.4, 0.4, 0.2], dtype=torch.float64) - means)

    assert torch.autograd.gradcheck(consistency_of, (coarse,))
    assert torch.allclose(formula.expand(7, 3), gradient)


def test_targets_count_labels_in_every_set():
    """Targets of overlapping sets sum to 1; the image counts weight the labels."""
    assert np.allclose([3 / 7, 3 / 7, 1 / 7], targets(COVER, [50] * 6))
    assert np.allclose([0.5, 0.25, 0.25], targets([[0], [1], [2]], [20, 10, 10]))


def test_term_is_added_to_the_loss(tiny_data, make_trainer):
    """The trainer passes the second output to the term and adds its value to the mean loss."""

    class Pair(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(4))

        def forward(self, x):
            return self.weight.expand(len(x), 4), torch.ones(len(x), 2) * self.weight[:2]

    data, curves, weights = tiny_data(), [], []
    sampler = sampling.by_class(data.train.labels, [[0], [1], [2], [3]], balance="none")
    for name, strength in (("without", 0.0), ("with", 2.0)):
        loss = Consistency((0.5, -0.5), strength) if strength else losses.cross_entropy
        task = Task("root", data, np.arange(4), sampler, macs_trained=1, loss=loss)
        params = PARAMS.model_copy(update={"label_smoothing": 0.1, "ema": 0.0, "clip": 0.0})
        network = Pair()
        trainer = make_trainer(data, params=params, batch_size=32, folder=name)
        trainer.fit(network, task, seed=0)
        curves.append(trainer.curves[0]["train_loss"])
        weights.append(network.weight.detach())

    # There is one batch. Its term is 2/2 (.25 + .25); it raises label 0 and lowers label 1.
    assert math.isclose(math.log(4), curves[0], abs_tol=1e-6)
    assert math.isclose(math.log(4) + 0.5, curves[1], abs_tol=1e-6)
    assert weights[0][0] < weights[1][0]
    assert weights[0][1] > weights[1][1]
