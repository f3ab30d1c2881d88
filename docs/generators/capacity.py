"""What a build of ten million posts takes: measured costs of every stage, and what follows from them."""

import json
from typing import Any

from generators.text import ROOT, table

POSTS = 10_000_000
# Assumptions; docs/capacity.md lists them.
KEPT = 0.25  # share of the posts whose images are fetched
FILE_KB = 80  # of the 720-pixel variant
SAMPLE_KB = 20  # of a normalised image of 256 pixels, quality 95
CORE_HOUR_USD = 0.05
GB_MONTH_USD = 0.023
CORES = 16
_READ_IMAGES = ("download", "measure", "duplicates", "split", "shards")


def _details(name: str) -> dict[str, Any] | None:
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    if not path.is_file():
        return None
    details: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["details"]
    return details


def measured() -> str | None:
    """Returns the cost of each stage per 1,000 posts or images; None where a result is not recorded."""
    tables, images = _details("tables_10m"), _details("image_growth")
    if tables is None or images is None:
        return None
    largest = str(max(images["images"]))
    rows = []
    for stage, cost in tables["stages"].items():
        rows.append(_row(stage, tables["posts"], "posts", cost, _table_exponents().get(stage)))
    for stage in _READ_IMAGES:
        cost = images["stages"][stage][largest]
        rows.append(_row(stage, int(largest), "images", cost, images["exponents"].get(stage)))
    columns = ("stage", "measured at", "CPU seconds per 1,000", "peak, GiB", "exponent")
    return table(columns, rows)


def plan() -> str | None:
    """Returns machines, hours and money for ten million posts; None where a result is not recorded."""
    tables, images = _details("tables_10m"), _details("image_growth")
    if tables is None or images is None:
        return None
    fetched = round(POSTS * KEPT)
    listing_hours = POSTS / 200 / 3600
    rows: list[tuple[str, ...]] = [
        ("`listing`", "1", f"{listing_hours:.1f}", "the board's rate: 200 posts a second", ""),
        (
            "`download`",
            "1",
            f"{fetched / 3600:,.0f}",
            f"the board's rate: 1 file a second; {fetched * FILE_KB / 1e6:,.0f} GB",
            "",
        ),
    ]
    core_hours = 0.0
    for stage in ("measure", "duplicates", "shards"):
        seconds = images["cpu_seconds_per_1000_images"][stage] * fetched / 1000
        core_hours += seconds / 3600
        rows.append(
            (
                f"`{stage}`",
                "1",
                _hours(seconds / CORES),
                f"{seconds / 3600:,.1f} core-hours on {CORES} cores",
                _usd(seconds / 3600 * CORE_HOUR_USD),
            )
        )
    seconds = sum(cost["cpu_seconds"] for cost in tables["stages"].values())
    seconds += images["cpu_seconds_per_1000_images"]["split"] * fetched / 1000
    core_hours += seconds / 3600
    rows.append(
        (
            "tables, split and catalog",
            "1",
            _hours(seconds),
            f"one core; peak {_peak(tables):.1f} GiB",
            _usd(seconds / 3600 * CORE_HOUR_USD),
        )
    )
    gigabytes = (fetched * (FILE_KB + 2 * SAMPLE_KB)) / 1e6 + tables["catalog_bytes"] / 1e9
    rows.append(
        (
            "storage",
            "",
            "",
            f"{gigabytes:,.0f} GB: originals, normalised images, shards, catalog",
            f"{_usd(gigabytes * GB_MONTH_USD)} a month",
        )
    )
    rows.append(
        (
            "**all computing**",
            "",
            "",
            f"{core_hours:,.0f} core-hours",
            _usd(core_hours * CORE_HOUR_USD),
        )
    )
    return table(("step", "machines", "hours", "limited by", "money"), rows)


def _row(
    stage: str, count: int, unit: str, cost: dict[str, float], exponent: float | None
) -> tuple[str, ...]:
    return (
        f"`{stage}`",
        f"{count:,} {unit}",
        f"{1000 * cost['cpu_seconds'] / count:.3f}",
        f"{cost['peak_mib'] / 1024:.2f}",
        "" if exponent is None else f"{exponent:.2f}",
    )


def _table_exponents() -> dict[str, float]:
    details = _details("table_growth") or {}
    exponents: dict[str, float] = details.get("exponents", {})
    return exponents


def _peak(tables: dict[str, Any]) -> float:
    return max(cost["peak_mib"] for cost in tables["stages"].values()) / 1024


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f}" if seconds >= 360 else "< 0.1"


def _usd(amount: float) -> str:
    return f"{amount:,.2f} USD" if amount < 10 else f"{amount:,.0f} USD"
