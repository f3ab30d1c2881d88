"""
Complete, correct images per second against img2dataset, from the same local board.

img2dataset gets the list of URLs for nothing and only downloads, without resizing, into WebDataset
tars; ours lists the board, judges every post and downloads. The board refuses the User-Agents of
browsers, as Danbooru does, and img2dataset always sends one: here it sends another.
"""

import itertools
import os
import statistics
import subprocess
import tarfile
from pathlib import Path

from benchmarks.shared import board, pairs, peers
from benchmarks.shared.result import Result

PACKAGE, BAR = "img2dataset==1.47.0", 3.0
_USER_AGENT = """
import urllib.request

_Request = urllib.request.Request


def _named(url, data=None, headers={}, **options):
    return _Request(url, data, {**headers, "User-Agent": "benchmark (local board)"}, **options)


urllib.request.Request = _named
"""
"""Imported by Python at its start (`sitecustomize`), in img2dataset's worker processes too."""
THREADS = 64  # the best of 16, 32, 64 and 128 with one process on two cores


def run() -> Result:
    """Returns the median ratio of images per second."""
    binaries = peers.environment(PACKAGE)
    quiet = {"NO_ALBUMENTATIONS_UPDATE": "1", "WANDB_MODE": "offline"}
    with board.served() as (url, root):
        (root / "site").mkdir()
        (root / "site/sitecustomize.py").write_text(_USER_AGENT)
        quiet["PYTHONPATH"] = str(root / "site")
        addresses = root / "urls.txt"
        addresses.write_text("\n".join(board.addresses(url)))
        numbers = itertools.count()

        def theirs() -> int:
            folder = root / f"theirs{next(numbers)}"
            command = [binaries / "img2dataset", "--url_list", addresses, "--input_format", "txt"]
            command += ["--output_folder", folder, "--output_format", "webdataset"]
            command += ["--resize_mode", "no", "--processes_count", 1, "--thread_count", THREADS]
            command += ["--enable_wandb", "False"]
            subprocess.run(
                list(map(str, command)), check=True, capture_output=True, env=os.environ | quiet
            )
            stored = sum(_images(path) for path in folder.glob("*.tar"))
            if stored != board.IMAGES:
                raise SystemExit(f"img2dataset stored {stored} of {board.IMAGES} images")
            return stored

        def ours() -> int:
            return board.scrape(url, root / f"ours{next(numbers)}")

        ratios, rates = pairs.compared(ours, theirs)
    return Result(
        value=statistics.median(ratios),
        unit="times img2dataset's images per second",
        bar=f">= {BAR:g}",
        ok=statistics.median(ratios) >= BAR,
        runs=ratios,
        peer=f"{PACKAGE}, one process, {THREADS} threads, no resizing",
        details={"images_per_second": rates, "latency_seconds": board.LATENCY_SECONDS},
    )


def _images(path: Path) -> int:
    with tarfile.open(path) as tar:
        return sum(name.endswith(".jpg") for name in tar.getnames())
