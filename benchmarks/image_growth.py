"""
How the cost of a build grows with its images: CPU seconds and memory of every stage, folder to catalog.

The images are drawn from random numbers: no two are alike, and a label has a hundred of them. They lie in
a folder, so that no board and no network takes part. The CPU seconds of a stage are fitted by
start + factor * images ** exponent (`benchmarks.shared.cost_curve`): an exponent of 1 means that ten
times the images take ten times as long, beyond the start of Python. The slope from the second largest to
the largest build counts too. A stage whose work in the second largest build is less than a fifth of the
start has no exponent: it would be that of noise. `table_growth` measures these stages at a million posts.
"""

import io
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.shared import cost_curve, peak
from benchmarks.shared.peak import StageCost
from benchmarks.shared.result import Result

SIZES = (100, 1_000, 7_000, 50_000)
_OF_LABEL = 100
_SIDE = 160  # pixels of an image, of which 128 are kept
_STAGES = {
    "listing": ("scraper", "listing"),
    "decide": ("scraper", "decide", "--min-images", "1", "--min-side", "1"),
    "download": ("scraper", "download", "--side", "128"),
    "measure": ("curation", "measure", "--side", "128", "--workers", "1"),
    "filters": ("curation", "filters", "--min-sharpness", "0", "--min-saturation", "0"),
    "duplicates": ("curation", "duplicates", "--workers", "1"),
    "persona": ("curation", "persona", "--min-samples", "1", "--balance", "none"),
    "split": ("curation", "split", "--tolerance", "0.4"),
    "shards": ("curation", "shards"),
    "catalog": ("curation", "catalog"),
}
BARS = dict.fromkeys(_STAGES, 1.05) | {"duplicates": 1.5}


def run() -> Result:
    """Returns the largest exponent of a stage, as a share of its bar."""
    return judged({count: _costs(count) for count in SIZES})


def judged(costs: Mapping[int, Mapping[str, StageCost]]) -> Result:
    """Returns the result of the measured costs of each stage, by number of images."""
    curves, last, exponents = {}, {}, {}
    for stage in _STAGES:
        seconds = {count: each[stage].cpu_seconds for count, each in costs.items()}
        curves[stage] = cost_curve.fitted(seconds)
        largest = {count: seconds[count] for count in SIZES[-2:]}
        last[stage] = cost_curve.slope(largest, start=curves[stage].start)
        if last[stage] is not None:
            exponents[stage] = max(curves[stage].exponent, last[stage])
    shares = {stage: exponent / BARS[stage] for stage, exponent in exponents.items()}
    return Result(
        value=max(shares.values()),
        unit="of the bar of its stage: the largest exponent",
        bar="<= 1: exponents <= 1.05, duplicates <= 1.5",
        ok=max(shares.values()) <= 1,
        runs=[round(exponent, 3) for exponent in exponents.values()],
        details={
            "exponents": {stage: round(value, 3) for stage, value in exponents.items()},
            "too_little_work": sorted(set(_STAGES) - set(exponents)),
            "of_all_sizes": {
                stage: {name: round(value, 3) for name, value in asdict(curve).items()}
                for stage, curve in curves.items()
            },
            "of_the_largest": last,
            "images": list(costs),
            "stages": {
                stage: {
                    str(count): {key: round(value, 2) for key, value in asdict(each[stage]).items()}
                    for count, each in costs.items()
                }
                for stage in _STAGES
            },
            "cpu_seconds_per_1000_images": {
                stage: round(1000 * costs[SIZES[-1]][stage].cpu_seconds / SIZES[-1], 3)
                for stage in _STAGES
            },
            "load_average": round(os.getloadavg()[0], 1),
        },
        commands=["python -m benchmarks image_growth"],
    )


def _costs(count: int) -> dict[str, StageCost]:
    """Returns what each stage needs for a build of `count` images."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        peak.apart(_draw, root / "images", count)
        (root / "params.yaml").write_text(
            "site: {name: folder, folder: images}\n", encoding="utf-8"
        )
        return {
            stage: peak.of_command(command, root / "data") for stage, command in _STAGES.items()
        }


def _draw(folder: Path, count: int) -> None:
    """Writes the images: soft random shapes with smaller ones on them, as JPEG."""
    for number in range(count):
        rng = np.random.default_rng(number)
        shapes = [
            Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).resize(
                (_SIDE, _SIDE), how
            )
            for side, how in ((5, Image.Resampling.BICUBIC), (12, Image.Resampling.BICUBIC))
        ]
        image = Image.blend(shapes[0], shapes[1], 0.3)
        path = folder / f"label-{number // _OF_LABEL:04d}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        file = io.BytesIO()
        image.save(file, "JPEG", quality=85)
        path.write_bytes(file.getvalue())
