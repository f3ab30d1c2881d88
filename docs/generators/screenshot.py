"""The images of pages: the first screen of a built report, and of a browse page that runs."""

import shutil
import subprocess
from pathlib import Path

from generators.text import ROOT

_REPORT_SIZE = "900,1072"  # pixels: the answer, the results table and two figures
_BROWSE_SIZE = "1200,880"  # pixels: the filters and three rows of images
_DRAWN_MS = 5_000  # of the page's own clock: all images have arrived long before


def shoot(page: Path) -> Path:
    """
    Writes docs/report.png from the report `page` and returns its path.

    Raises:
        FileNotFoundError: Chromium is not installed, or there is no such page.
    """
    return _shoot(page.resolve(strict=True).as_uri(), "report.png", _REPORT_SIZE)


def shoot_browse(address: str) -> Path:
    """
    Writes docs/browse.png from the page at `address`, which `python -m curation browse` serves.

    Raises:
        FileNotFoundError: Chromium is not installed.
    """
    return _shoot(address, "browse.png", _BROWSE_SIZE)


def _shoot(address: str, name: str, size: str) -> Path:
    chromium = shutil.which("chromium")
    if chromium is None:
        raise FileNotFoundError("Chromium is not installed, which draws the page.")
    target = ROOT / "docs" / name
    subprocess.run(
        [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--window-size={size}",
            f"--virtual-time-budget={_DRAWN_MS}",
            f"--screenshot={target}",
            address,
        ],
        check=True,
        capture_output=True,
    )
    return target
