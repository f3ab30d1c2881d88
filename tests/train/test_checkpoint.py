"""Checkpoints: damaged files and other shapes are refused."""

import pytest
import torch

from train import backbone
from train.errors import BadCheckpoint
from train.runtime import checkpoint, seeds

SIDE = 16
SMALL = backbone.Params(
    widths=(8, 16, 16, 16, 16), dense=32, batch_norm=True, dropout=0.1, noise=0.01, init="he"
)


def network(*, seed=0, params=SMALL):
    seeds.seed(seed, "network")
    return backbone.build(params, outputs=4, side=SIDE)


def test_checkpoint_of_another_shape_is_refused(tmp_path):
    """Weights of another shape and damaged files are refused, and the network does not change."""
    path = tmp_path / "weights.safetensors"
    checkpoint.save(path, network().state_dict(), {"epoch": 1})
    tensors, state = checkpoint.load(path)
    other = backbone.build(SMALL, outputs=5, side=SIDE)
    before = other.head.fc21.weight.clone()

    assert {"epoch": 1} == state
    with pytest.raises(BadCheckpoint, match="predictions"):
        checkpoint.fill(other, tensors, source="it")
    assert torch.equal(before, other.head.fc21.weight)
    path.write_bytes(path.read_bytes()[:100])
    for missing in (path, tmp_path / "absent"):
        with pytest.raises(BadCheckpoint, match="cannot be read"):
            checkpoint.load(missing)
