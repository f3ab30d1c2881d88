"""Encoded images and labels of an epoch in random order, compared with webdataset."""

import statistics
import tempfile
from pathlib import Path

import numpy as np
import webdataset as wds

from benchmarks.shared import loader_data, pairs
from benchmarks.shared.result import Result
from personae.build.stream import Streamed
from train.data.images import open_split

BAR = 3.0


def run() -> Result:
    """Times the reading of 5,000 JPEG images of 128 pixels with their labels, without decoding."""
    with tempfile.TemporaryDirectory() as name:
        folder = loader_data.write(Path(name) / "shards")
        pictures = open_split(folder, Path(name) / "cache", "train", storage="stream")
        urls = sorted(str(path) for path in folder.glob("train-*.tar"))
        rng = np.random.default_rng(0)

        def ours() -> int:
            images = pictures.images
            assert isinstance(images, Streamed)  # noqa: S101  # `stream` was requested
            return sum(
                1
                for row in rng.permutation(len(pictures)).tolist()
                if images.encoded(row) and pictures.labels[row] >= 0
            )

        def theirs() -> int:
            stream = wds.WebDataset(urls, shardshuffle=100, seed=0).shuffle(1000)
            return sum(1 for sample in stream if sample["jpg"] and int(sample["cls"]) >= 0)

        ratios, rates = pairs.compared(ours, theirs)
    value = statistics.median(ratios)
    return Result(
        value=value,
        unit="times webdataset's samples per second",
        bar=f">= {BAR:g}",
        ok=value >= BAR,
        runs=ratios,
        peer="webdataset, shuffle(1000), nothing decoded",
        details={"samples_per_second": rates, "data": "5,000 drawn JPEG images, page cache warm"},
    )
