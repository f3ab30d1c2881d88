"""A shuffled epoch that is streamed from an S3 server on loopback, compared with shards on the disk."""

import itertools
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.shared import loader_data, pairs
from benchmarks.shared.result import Result
from personae.build.shards import LocalShards
from personae.build.stream import Streamed
from personae.storage import copies
from personae.storage.build import RemoteShards
from train.data.images import open_split
from train.params.data import Source

BAR = 0.95
BATCH = 128
_KEY, _SECRET = "benchmark", "benchmark-secret"
_ADDRESS = re.compile(r"\[(http://127\.0\.0\.1:\d+)/\]")


def run() -> Result:
    """Times epochs from the disk, from a warm and a cold cache, and from one with room for half."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name, _server(Path(name) / "s3") as endpoint:
        os.environ |= {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": _KEY,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
        }
        root = Path(name)
        shards_dir = loader_data.write(root / "data" / "shards")
        copies.push(root / "data", "s3://bucket/build", folders=["shards"])
        total = sum(path.stat().st_size for path in shards_dir.iterdir())
        numbers, rng = itertools.count(), np.random.default_rng(0)

        def epoch(cache: str, *, remote: bool = True, cache_bytes: int = 1 << 40) -> int:
            """Opens the data and reads every image once, in batches of a random order."""
            source = Source(url="s3://bucket/build", cache_bytes=cache_bytes) if remote else None
            images = open_split(shards_dir, root / cache, "train", storage="stream", source=source)
            assert isinstance(images.images, Streamed)  # noqa: S101  # `stream` was requested
            if not remote:
                images = replace(images, images=replace(images.images, files=_Local(shards_dir)))
            order = rng.permutation(len(images))
            starts = range(0, len(order), BATCH)
            return sum(len(images.batch(order[start : start + BATCH])) for start in starts)

        rates = pairs.in_rounds(
            {
                "local": lambda: epoch("none", remote=False),
                "warm": lambda: epoch("warm"),
                "cold": lambda: epoch(f"cold-{next(numbers)}"),
                "half": lambda: epoch(f"half-{next(numbers)}", cache_bytes=total // 2),
            }
        )
    ratios = {
        kind: [round(a / b, 3) for a, b in zip(rates[kind], rates["local"], strict=True)]
        for kind in ("warm", "cold", "half")
    }
    value = statistics.median(ratios["warm"])
    return Result(
        value=value,
        unit="times the images per second of shards on the disk, with a warm cache",
        bar=f">= {BAR:g}",
        ok=value >= BAR,
        runs=ratios["warm"],
        peer="the same shards in a folder, read by as many threads",
        details={
            "images_per_second": {kind: [round(rate, 1) for rate in rates[kind]] for kind in rates},
            "median_ratio_cold": statistics.median(ratios["cold"]),
            "median_ratio_half": statistics.median(ratios["half"]),
            "what": "warm: all shards in the cache. cold: an empty cache, with the opening of the build. "
            "half: an empty cache with room for half of the bytes, other images by single requests",
            "data": f"5,000 drawn JPEG images of 128 pixels, {total} bytes",
            "server": "rclone serve s3 on loopback, on the same cores",
            "load_at_start": round(load, 2),
        },
    )


class _Local(LocalShards):
    """Shards in a folder, read by as many threads as those of a storage: other load shares the cores."""

    threads = RemoteShards.threads


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    """Yields the address of an S3 server with an empty bucket."""
    (folder / "bucket").mkdir(parents=True)
    rclone = Path(sys.executable).with_name("rclone")
    command = [rclone, "serve", "s3", "--addr", "127.0.0.1:0", "--auth-key", f"{_KEY},{_SECRET}"]
    command += ["--vfs-cache-mode", "off", "--config", "", folder]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
        try:
            assert child.stderr is not None  # noqa: S101  # a pipe was asked for
            yield next(filter(None, map(_ADDRESS.search, child.stderr)))[1]
        finally:
            child.terminate()
