"""The shards of the loader benchmarks can be opened for training."""

import pytest

from benchmarks.shared import loader_data
from train.data.images import open_split


@pytest.mark.parametrize("storage", ["cache", "stream"])
def test_shards_of_the_benchmarks_can_be_opened(tmp_path, storage):
    """Every training image exists, with the requested side and its label."""
    folder = loader_data.write(tmp_path / "shards", samples=30, side=16)
    images = open_split(folder, tmp_path / "cache", "train", storage=storage)

    assert 30 == len(images)
    assert (30, 16, 16, 3) == images.images.shape
    assert [row % loader_data.LABELS for row in range(30)] == images.labels.tolist()
