"""Conversion of maps to RNN inputs: the notes' mode product and mean, pools, operations."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from train.methods.dhnn import conversion
from train.methods.dhnn.conversion import Conversion


def test_mode_product_of_the_worked_example():
    """0 to 7 in 2 x 2 x 2, channels summed, rows kept, columns subtracted, give (-2, -2)."""
    maps = torch.arange(8.0).view(1, 2, 2, 2)
    found = conversion.mode_product(
        maps,
        rows=torch.eye(2),
        columns=torch.tensor([[1.0, -1.0]]),
        channels=torch.tensor([[1.0, 1.0]]),
    )

    assert (1, 1, 2, 1) == tuple(found.shape)
    assert [-2.0, -2.0] == found.flatten().tolist()


def test_mean_of_the_worked_example():
    """The mean of (1, 3) and (3, 5) is (2, 4)."""
    found = conversion.mean([torch.tensor([[1.0, 3.0]]), torch.tensor([[3.0, 5.0]])])

    assert [[2.0, 4.0]] == found.tolist()


@pytest.mark.parametrize("side", [1, 2, 3, 4, 6, 8, 13, 32])
def test_averages_are_the_adaptive_pool(side):
    """The products equal torch's adaptive pool to 4 x 4, also for maps smaller than 4 x 4."""
    maps = torch.rand(2, 3, side, side)
    matrix = conversion.averages(side)

    assert torch.allclose(
        torch.nn.functional.adaptive_avg_pool2d(maps, 4),
        conversion.mode_product(maps, rows=matrix, columns=matrix),
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("kind", "learnt"),
    [("pool", 16 * 5), ("linear", 16 * 5 + 4 * 8 + 4 * 6), ("conv", 16 * 5 * 9 + 16)],
)
def test_conversions_have_the_weights_they_must(kind, learnt):
    """`pool` learns only the channel projection, `linear` three matrices, `conv` its kernel."""
    torch.manual_seed(0)
    part = Conversion(kind, (5, 8, 6))
    vectors = part(torch.rand(2, 5, 8, 6))
    vectors.square().sum().backward()

    assert (2, conversion.LENGTH) == tuple(vectors.shape)
    assert learnt == sum(weight.numel() for weight in part.parameters())
    assert all(weight.grad.abs().sum() > 0 for weight in part.parameters())


def test_projection_after_the_pool_is_the_one_before():
    """A 1 x 1 convolution after the average equals the convolution before it."""
    part = Conversion("pool", (5, 8, 8))
    maps = torch.rand(2, 5, 8, 8)
    projected = torch.einsum("bdhw,md->bmhw", maps, part.mix.weight)

    expected = torch.nn.functional.adaptive_avg_pool2d(projected, 4).flatten(1)
    assert torch.allclose(expected, part(maps), atol=1e-5)


@pytest.mark.parametrize("kind", ["pool", "linear", "conv"])
def test_counted_operations_are_the_executed_ones(kind):
    """MACs equal those that torch counts, minus the averages, which cost nothing."""
    part, (channels, height, width) = Conversion(kind, (5, 8, 6)), (5, 8, 6)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        part(torch.rand(1, channels, height, width))
    entering = channels if kind == "pool" else conversion.CHANNELS
    averaged = 0 if kind == "linear" else entering * 4 * width * (height + 4)

    assert part.macs == counter.get_total_flops() / 2 - averaged


def test_sets_of_layers():
    """`last` uses the last stage at each step, `alt` a deeper stage per step, `all` every stage."""
    assert [[2], [2]] == conversion.sets("last", stages=3, steps=2)
    assert [[1], [2]] == conversion.sets("alt", stages=3, steps=2)
    assert [[0], [1], [2]] == conversion.sets("alt", stages=3, steps=3)
    assert [[0], [0], [1], [1]] == conversion.sets("alt", stages=2, steps=4)
    assert [[0, 1], [0, 1], [0, 1]] == conversion.sets("all", stages=2, steps=3)
