"""Batches of a later epoch from the decoded cache, compared with webdataset, which decodes again."""

import statistics
import tempfile
from pathlib import Path

import numpy as np
import webdataset as wds

from benchmarks.shared import loader_data, pairs
from benchmarks.shared.result import Result
from train.data.images import open_split

BAR = 10.0
BATCH = 128


def run() -> Result:
    """Times shuffled uint8 batches of 128 images with labels; the first epoch is not counted."""
    with tempfile.TemporaryDirectory() as name:
        folder = loader_data.write(Path(name) / "shards")
        pictures = open_split(folder, Path(name) / "cache", "train", storage="cache")
        urls = sorted(str(path) for path in folder.glob("train-*.tar"))
        rng = np.random.default_rng(0)

        def ours() -> int:
            order, count = rng.permutation(len(pictures)), 0
            for start in range(0, len(order), BATCH):
                rows = order[start : start + BATCH]
                count += len(pictures.batch(rows)) * (len(pictures.labels[rows]) > 0)
            return count

        def theirs() -> int:
            stream = wds.WebDataset(urls, shardshuffle=100, seed=0).shuffle(1000).decode("rgb8")
            return sum(len(batch[0]) for batch in stream.to_tuple("jpg", "cls").batched(BATCH))

        ratios, rates = pairs.compared(ours, theirs)
    value = statistics.median(ratios)
    return Result(
        value=value,
        unit="times webdataset's images per second",
        bar=f">= {BAR:g}",
        ok=value >= BAR,
        runs=ratios,
        peer="webdataset, shuffle(1000), decode('rgb8'), batched",
        details={"images_per_second": rates, "data": "5,000 drawn JPEG images of 128 pixels"},
    )
