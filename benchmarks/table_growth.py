"""
How the CPU time of the table stages grows from 10,000 to 1,000,000 posts.

The CPU seconds of a stage, medians of several runs, are fitted by start + factor * posts ** exponent: see
`benchmarks.shared.cost_curve`. One exponent for all sizes could hide a decade that grows faster, so the
slope within each decade counts too, of the seconds less the fitted start: the last decade always, the
first where the work with 10,000 posts is at least a fifth of the start. The exponent of a stage is the
largest of these.

`split` compares all pairs of hashes up to some 120,000 images, and searches the near pairs above that, so
that neither of its decades is like the other. `duplicates` is a search with a bar of its own.
"""

import math
import os
import shutil
import statistics
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from benchmarks.shared import cost_curve, peak, table_data, table_stages
from benchmarks.shared.cost_curve import CostCurve
from benchmarks.shared.result import Result

ROUNDS = {1_000: 5, 10_000: 5, 30_000: 5, 100_000: 3, 300_000: 2, 1_000_000: 1}
"""Runs of each stage by number of posts; `duplicates` runs once."""
_DECADES = ((10_000, 30_000, 100_000), (100_000, 300_000, 1_000_000))
BAR, BAR_SEARCH = 1.05, 1.5


@dataclass(frozen=True, slots=True)
class StageGrowth:
    """The exponents of one stage."""

    curve: CostCurve
    """Through all sizes."""
    decades: list[float | None]
    """Of each decade; None where the work with its fewest posts is less than a fifth of the start."""

    @classmethod
    def of(cls, seconds: Mapping[int, float]) -> Self:
        """Returns the exponents of the CPU seconds of each size of `ROUNDS`."""
        curve = cost_curve.fitted(seconds)
        return cls(curve, [_slope(seconds, decade, curve.start) for decade in _DECADES])

    @property
    def largest(self) -> float:
        """The largest exponent; infinite if the last decade has none."""
        *earlier, last = self.decades
        known = [exponent for exponent in earlier if exponent is not None]
        return max(self.curve.exponent, math.inf if last is None else last, *known)


def run() -> Result:
    """Returns the largest exponent of a table stage; that of `duplicates` is in the details."""
    cpu: dict[str, dict[int, float]] = {}
    peaks: dict[str, dict[int, float]] = {}
    for posts, rounds in ROUNDS.items():
        for stage, costs in _costs(posts, rounds).items():
            seconds = [cost["cpu_seconds"] for cost in costs]
            cpu.setdefault(stage, {})[posts] = round(statistics.median(seconds), 3)
            mib = [cost["peak_mib"] for cost in costs]
            peaks.setdefault(stage, {})[posts] = round(max(mib), 1)
    growth = {stage: StageGrowth.of(seconds) for stage, seconds in cpu.items()}
    exponents = {stage: round(each.largest, 3) for stage, each in growth.items()}
    tables = [value for stage, value in exponents.items() if stage != "duplicates"]
    return Result(
        value=max(tables),
        unit="exponent of CPU seconds over posts, of the stage and span where it is largest",
        bar=f"<= {BAR:g} for every table stage, <= {BAR_SEARCH:g} for duplicates",
        ok=max(tables) <= BAR and exponents["duplicates"] <= BAR_SEARCH,
        runs=tables,
        details={
            "exponents": exponents,
            "of_all_sizes": {
                stage: {name: round(value, 3) for name, value in asdict(each.curve).items()}
                for stage, each in growth.items()
            },
            "of_each_decade": {stage: each.decades for stage, each in growth.items()},
            "with_the_start": {
                stage: _slope(seconds, list(ROUNDS)[1:]) for stage, seconds in cpu.items()
            },
            "cpu_seconds": cpu,
            "peak_mib": peaks,
            "load_average": round(os.getloadavg()[0], 1),
        },
        commands=[*table_stages.COMMANDS, "python -m curation duplicates"],
    )


def _costs(posts: int, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Returns the costs of each stage; `duplicates` runs on tables whose images it can read."""
    with table_stages.tables(posts) as data_dir, tempfile.TemporaryDirectory() as folder:
        measured = [table_stages.costs(data_dir) for _ in range(rounds)]
        with_images = Path(folder) / "data"
        peak.apart(table_data.write, with_images, posts)
        for stage in ("decide", "filters"):  # they read nothing that differs
            shutil.copytree(data_dir / stage, with_images / stage)
        duplicates = asdict(peak.of_stage(["duplicates"], with_images))
        return {stage: [costs[stage] for costs in measured] for stage in measured[0]} | {
            "duplicates": [duplicates]
        }


def _slope(seconds: Mapping[int, float], sizes: Iterable[int], start: float = 0.0) -> float | None:
    slope = cost_curve.slope({posts: seconds[posts] for posts in sizes}, start=start)
    return None if slope is None else round(slope, 3)
