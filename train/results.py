"""
`python -m train results [PRESET]`: every evaluated run in one table, its seeds together.

Reads results/RUN/SEED/{metrics,fit,model,cost}.json, or the committed experiments/PRESET/*.json;
writes text or CSV to a stream. What was not measured stays empty.
"""

import csv
import logging
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.table import Table

from personae import files
from personae.errors import MissingInput

log = logging.getLogger(__name__)

_SPREAD = ("msr", "msr_white", "msr_macro", "top5")  # shares, printed in per cent
_PLAIN = ("params", "macs_expected", "macs_max", "seconds_total", "seconds_critical")
COLUMNS = (
    "run",
    "seeds",
    "n_test",
    *(f"{name}{end}" for name in _SPREAD for end in ("", "_sd")),
    *_PLAIN,
    "latency_1_ms",
    "latency_256_ms",
    "peak_memory_mib",
)
_HEADINGS = (
    "run",
    "seeds",
    "MSR %",
    "white %",
    "macro %",
    "top-5 %",
    "params",
    "E[MAC]",
    "max MAC",
    "train s",
    "critical s",
    "1: ms",
    "256: ms",
    "peak MiB",
)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What is known of one run with one seed."""

    run: str
    seed: int
    metrics: Mapping[str, Any]
    """As in metrics.json."""
    cost: Mapping[str, Any]
    """As in cost.json; empty where it was not measured."""
    root_sha256: str
    """Of the shards it saw."""


def run(
    preset: str | None, *, results_dir: Path, experiments_dir: Path, out: TextIO, as_csv: bool
) -> list[dict[str, Any]]:
    """
    Prints the table and returns its rows: a `rich` table on a terminal, aligned text elsewhere.

    Raises:
        MissingInput: There is no evaluated run, no such preset, or a file is damaged.
    """
    found = _results(results_dir) if preset is None else _experiments(experiments_dir, preset)
    rows = summary(found)
    if len({one.root_sha256 for one in found}) > 1:
        log.warning("These runs saw different shards: their figures do not compare.")
    if as_csv:
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    elif out.isatty():
        _print_rich(rows, out)
    else:
        out.write(_aligned([_HEADINGS, *(_texts(row) for row in rows)]))
    return rows


def summary(found: Iterable[Evaluated]) -> list[dict[str, Any]]:
    """
    Returns one row per run under the names of COLUMNS, `flat` first, then by name.

    Means over the seeds, `_sd` their standard deviation (None of one seed); None where no seed has
    the figure.
    """
    runs: dict[str, list[Evaluated]] = defaultdict(list)
    for one in found:
        runs[one.run].append(one)
    rows = []
    for name in sorted(runs, key=lambda name: (name != "flat", name)):
        seeds = sorted(runs[name], key=lambda one: one.seed)
        row: dict[str, Any] = {"run": name, "seeds": " ".join(str(one.seed) for one in seeds)}
        row["n_test"] = _mean(one.metrics.get("n_test") for one in seeds)
        for figure in _SPREAD:
            values = [one.metrics.get(figure) for one in seeds]
            row |= {figure: _mean(values), f"{figure}_sd": _deviation(values)}
        for figure in _PLAIN:
            row[figure] = _mean(one.metrics.get(figure) for one in seeds)
        for batch in (1, 256):
            row[f"latency_{batch}_ms"] = _mean(_median_ms(one.cost, batch) for one in seeds)
        row["peak_memory_mib"] = _mean(one.cost.get("peak_memory_mib") for one in seeds)
        rows.append(row)
    return rows


def _results(folder: Path) -> list[Evaluated]:
    paths = sorted(folder.glob("*/*/metrics.json"))
    waiting = sorted(
        f"{path.parent.parent.name} {path.parent.name}"
        for path in folder.glob("*/*/model.json")
        if not path.with_name("metrics.json").exists()
    )
    if waiting:
        log.warning("trained but not evaluated: %s", ", ".join(waiting))
    if not paths:
        raise MissingInput(
            f"There are no results: {folder} holds no RUN/SEED/metrics.json. Run `dvc repro`, or "
            "name a preset whose figures were recorded: python -m train results demo."
        )
    found = []
    for path in paths:
        model = files.read_json(path.with_name("model.json"), stage="fit")
        measured = path.with_name("cost.json")
        found.append(
            Evaluated(
                run=path.parent.parent.name,
                seed=_seed(path.parent),
                metrics=files.read_json(path, stage="evaluate"),
                cost=files.read_json(measured, stage="evaluate") if measured.exists() else {},
                root_sha256=str(model.get("root_sha256")),
            )
        )
    return found


def _experiments(folder: Path, preset: str) -> list[Evaluated]:
    paths = sorted((folder / preset).glob("*.json"))
    if not paths:
        known = ", ".join(sorted({path.parent.name for path in folder.glob("*/*.json")}))
        raise MissingInput(
            f"There are no results: {folder / preset} holds no records. Recorded presets: "
            f"{known or 'none'}. `python -m train record {preset}` records those of results/."
        )
    found = []
    for path in paths:
        record = files.read_json(path, stage="record")
        try:
            found.append(
                Evaluated(
                    run=record["run"],
                    seed=record["seed"],
                    metrics=record["metrics"],
                    cost=record.get("cost", {}),
                    root_sha256=record["data"]["root_sha256"],
                )
            )
        except KeyError as error:
            raise MissingInput(
                f"{path} is no record, it lacks {error}. Remove it, or restore it from git."
            ) from error
    return found


def _seed(folder: Path) -> int:
    if not folder.name.isdecimal():
        raise MissingInput(
            f"{folder} is not named by a seed, a whole number. Move what is not a run elsewhere."
        )
    return int(folder.name)


def _median_ms(cost: Mapping[str, Any], batch: int) -> float | None:
    return next((e["median_ms"] for e in cost.get("latency", []) if e["batch"] == batch), None)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known else None


def _deviation(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.stdev(known) if len(known) > 1 else None


def _texts(row: Mapping[str, Any]) -> list[str]:
    """Returns what a person reads of a row, in the order of the headings."""
    shares = [_share(row[name], row[f"{name}_sd"]) for name in _SPREAD]
    counts = [_count(row[name]) for name in ("params", "macs_expected", "macs_max")]
    seconds = [_number(row[name], 0) for name in ("seconds_total", "seconds_critical")]
    times = [_number(row[name], 2) for name in ("latency_1_ms", "latency_256_ms")]
    memory = _number(row["peak_memory_mib"], 0)
    return [row["run"], row["seeds"], *shares, *counts, *seconds, *times, memory]


def _share(mean: float | None, deviation: float | None) -> str:
    spread = "" if deviation is None else f" ± {100 * deviation:.1f}"
    return "" if mean is None else f"{100 * mean:.1f}{spread}"


def _count(value: float | None) -> str:
    """Returns thousands and millions short: 1.31 M."""
    if value is None:
        return ""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.2f}{unit}"
    return f"{value:.0f}"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Returns columns of equal width, names to the left and numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            text.ljust(width) if place < 2 else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip() + "\n")
    return "".join(lines)


def _print_rich(rows: Sequence[Mapping[str, Any]], out: TextIO) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, heading in enumerate(_HEADINGS):
        table.add_column(heading, justify="left" if place < 2 else "right")
    for row in rows:
        table.add_row(*_texts(row))
    Console(file=out).print(table)
