"""
A local board for the benchmarks of the scraper: real HTTP, 3,000 noise-on-gradient images, 20 ms.

The limit of the board is lifted, so that programs are compared and not pauses. Images have 400 by 500
pixels as JPEG, about 60 kB, as the originals that the board lists.
"""

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import requests
from PIL import Image

from scraper.demo.server.process import running

IMAGES, LABELS, LATENCY_SECONDS = 3_000, 5, 0.02
"""Images: with 1,500, a quarter of our time was the start of the process, once in a real scrape."""
WORKERS = 64
NOISE = 24


def write_images(folder: Path, *, count: int = IMAGES) -> None:
    """Writes `count` JPEG files in folders of `LABELS` labels; equal on every run."""
    random = np.random.default_rng(0)
    ramp = np.linspace(40, 200, 500)[:, None, None] + np.zeros((500, 400, 3))
    for number in range(count):
        label = folder / f"label_{number % LABELS}"
        label.mkdir(parents=True, exist_ok=True)
        noise = random.integers(-NOISE, NOISE, ramp.shape) + random.integers(-40, 40, 3)
        pixels = np.clip(ramp + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(label / f"{number:05d}.jpg", quality=85)


@contextlib.contextmanager
def served(*options: str, count: int = IMAGES) -> Iterator[tuple[str, Path]]:
    """
    Serves the images as a board; yields its address and a folder for the results of programs.

    Args:
        options: Further options of `python -m scraper demo`, such as faults.
        count: Number of images.
    """
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_images(root / "images", count=count)
        command = ["--folder", str(root / "images"), "--rate", "0", "--workers", "0"]
        command += ["--latency-seconds", str(LATENCY_SECONDS), "--cache", str(root / "cache")]
        with running(None, options=[*command, *options]) as url:
            yield url, root


LIFTED = ["--api-rate", "1e6", "--cdn-rate", "1e6"]
"""Options of a scrape that is as fast as it can."""


def everything(url: str) -> list[str]:
    """Returns the options of a scrape of all that the board at `url` has, as fast as it can."""
    return ["--site", url, "--min-images", "1", "--min-side", "0", *LIFTED]


def set_faults(url: str, faults: Sequence[str]) -> None:
    """Sets the faults of a board with `--control`; they strike anew, whatever came before."""
    requests.post(f"{url}/demo/faults", json=list(faults), timeout=60).raise_for_status()


def scrape(url: str, folder: Path, *options: str, expected: int = IMAGES) -> int:
    """
    Runs `python -m scraper` over the whole board into the empty `folder`; returns the images stored.

    The originals are downloaded, with the workers that suit a board without a limit.
    """
    prepare(folder)
    text = _run(folder, *everything(url), "--workers", str(WORKERS), *options)
    if f"{expected:,} images stored" not in text:
        raise SystemExit(f"the scraper did not store {expected} images:\n{text}")
    return expected


def prepare(folder: Path) -> None:
    """Makes the `folder` of a scrape that downloads originals."""
    folder.mkdir(parents=True)
    (folder / "params.yaml").write_text("download: {side: null}\n")


def choose(url: str, folder: Path) -> None:
    """Runs the stages before `download` over the whole board, in a prepared `folder`."""
    _run(folder, "listing", "--site", url, "--min-images", "1", *LIFTED)
    _run(folder, "decide", "--min-images", "1", "--min-side", "0")


def download(url: str, folder: Path, *, workers: int = WORKERS) -> int:
    """Runs stage `download` in a `folder` where `choose` has run; returns the images stored."""
    _run(folder, "download", "--site", url, *LIFTED, "--workers", str(workers))
    stored = pq.read_metadata(folder / "data/download/images.parquet").num_rows
    if stored != IMAGES:
        raise SystemExit(f"stage download stored {stored} of {IMAGES} images")
    return stored


def _run(folder: Path, *options: str) -> str:
    command = [sys.executable, "-m", "scraper", *options]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def addresses(url: str) -> list[str]:
    """Returns the URL of every original of the board."""
    urls: list[str] = []
    before: dict[str, str] = {}
    headers = {"User-Agent": "benchmark (local board)"}
    while rows := requests.get(
        f"{url}/posts.json", params={"limit": "200", **before}, headers=headers, timeout=60
    ).json():
        urls += [row["file_url"] for row in rows]
        before = {"page": f"b{min(row['id'] for row in rows)}"}
    return urls
