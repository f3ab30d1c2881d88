"""The image of the report at the top of the README: the first screen of a built report."""

import shutil
import subprocess
from pathlib import Path

from generators.text import ROOT

_WIDTH, _HEIGHT = 900, 1072  # pixels: the answer, the results table and two figures


def shoot(page: Path) -> Path:
    """
    Writes docs/report.png from the report `page` and returns its path.

    Raises:
        FileNotFoundError: Chromium is not installed, or there is no such page.
    """
    chromium = shutil.which("chromium")
    if chromium is None:
        raise FileNotFoundError("Chromium is not installed, which draws the page.")
    target = ROOT / "docs" / "report.png"
    subprocess.run(
        [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--window-size={_WIDTH},{_HEIGHT}",
            f"--screenshot={target}",
            page.resolve(strict=True).as_uri(),
        ],
        check=True,
        capture_output=True,
    )
    return target
