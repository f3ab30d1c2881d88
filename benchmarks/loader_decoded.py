"""Batches that are decoded from the shards, compared with decoding the same bytes from memory."""

import io
import os
import statistics
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.shared import loader_data, pairs
from benchmarks.shared.result import Result
from personae.build.stream import Streamed
from train.data.images import open_split

BAR = 0.95
BATCH = 128


def run() -> Result:
    """Times both; the peer decodes bytes in memory with as many threads, and discards the pixels."""
    with tempfile.TemporaryDirectory() as name:
        folder = loader_data.write(Path(name) / "shards")
        pictures = open_split(folder, Path(name) / "cache", "train", storage="stream")
        assert isinstance(pictures.images, Streamed)  # noqa: S101  # `stream` was requested
        encoded = [pictures.images.encoded(row) for row in range(len(pictures))]
        rng = np.random.default_rng(0)

        def ours() -> int:
            order = rng.permutation(len(pictures))
            starts = range(0, len(order), BATCH)
            return sum(len(pictures.batch(order[start : start + BATCH])) for start in starts)

        def theirs() -> int:
            starts = range(0, len(encoded), BATCH)
            return sum(sum(pool.map(_decoded, encoded[at : at + BATCH])) for at in starts)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            ratios, rates = pairs.compared(ours, theirs)
    value = statistics.median(ratios)
    return Result(
        value=value,
        unit="times the images per second of decoding alone",
        bar=f">= {BAR:g}",
        ok=value >= BAR,
        runs=ratios,
        peer="Pillow on bytes in memory, as many threads",
        details={"images_per_second": rates, "data": "5,000 drawn JPEG images of 128 pixels"},
    )


def _decoded(content: bytes) -> int:
    with Image.open(io.BytesIO(content)) as image:
        np.asarray(image.convert("RGB"))
    return 1
