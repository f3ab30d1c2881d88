"""
`python -m train results [PRESET]`: one table of all evaluated runs, with means over seeds.

Reads results/RUN/SEED/{metrics,model,cost,fit}.json with curves and validation, or the committed experiments/PRESET/*.json; writes
text or CSV to a stream. A cell without a measurement is empty.
"""

import csv
import logging
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import pyarrow.parquet as pq

from personae.errors import MissingInput
from personae.text import print_table
from train import guards
from train.documents import (
    CostDocument,
    FitDocument,
    MetricsDocument,
    ModelDocument,
    RecordDocument,
)
from train.engine import curves
from train.guards import TrainingRecord

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
    """One evaluated run with one seed."""

    run: str
    seed: int
    metrics: MetricsDocument
    cost: CostDocument | None
    """None if there is no cost.json."""
    root_sha256: str
    """Root hash of the shards."""
    training: TrainingRecord | None = None
    """What the warnings need to know; None where fit.json is absent."""


def run(
    preset: str | None, *, results_dir: Path, experiments_dir: Path, out: TextIO, as_csv: bool
) -> list[dict[str, Any]]:
    """
    Prints the table and returns its rows: a `rich` table on a terminal, aligned text elsewhere.

    Raises:
        MissingInput: There is no evaluated run, no such preset, or a file is damaged.
        BadDocument: A file has another shape.
    """
    evaluated = _results(results_dir) if preset is None else _experiments(experiments_dir, preset)
    rows = summary(evaluated)
    if len({entry.root_sha256 for entry in evaluated}) > 1:
        log.warning("These runs used different shards: their figures cannot be compared.")
    trainings = [entry.training for entry in evaluated if entry.training is not None]
    copies = guards.copied(trainings)
    if copies:
        names = ", ".join(each.name for each in copies)
        log.warning("nothing to group, so that these runs are the flat network: %s", names)
    for warning in guards.of_results([each for each in trainings if each not in copies]):
        log.warning(warning)
    if as_csv:
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        texts = [_texts(row) for row in rows]
        print_table(out, _HEADINGS, texts, numbers=range(2, len(_HEADINGS)))
    return rows


def summary(evaluated: Iterable[Evaluated]) -> list[dict[str, Any]]:
    """
    Returns one row for each run, with the keys of COLUMNS, `flat` first, then by name.

    A figure is the mean over the seeds that have it, and `_sd` their standard deviation. None marks
    a figure that no seed has, and the deviation of one seed.
    """
    runs: dict[str, list[Evaluated]] = defaultdict(list)
    for entry in evaluated:
        runs[entry.run].append(entry)
    rows = []
    for name in sorted(runs, key=lambda name: (name != "flat", name)):
        seeds = sorted(runs[name], key=lambda entry: entry.seed)
        metrics = [entry.metrics for entry in seeds]
        costs = [entry.cost for entry in seeds if entry.cost is not None]
        row: dict[str, Any] = {"run": name, "seeds": " ".join(str(entry.seed) for entry in seeds)}
        row["n_test"] = _mean(document.n_test for document in metrics)
        for figure in _SPREAD:
            values = [getattr(document, figure) for document in metrics]
            row |= {figure: _mean(values), f"{figure}_sd": _deviation(values)}
        for figure in _PLAIN:
            row[figure] = _mean(getattr(document, figure) for document in metrics)
        for batch in (1, 256):
            row[f"latency_{batch}_ms"] = _mean(cost.median_ms(batch) for cost in costs)
        row["peak_memory_mib"] = _mean(cost.peak_memory_mib for cost in costs)
        rows.append(row)
    return rows


def seed_of(folder: Path) -> int:
    """
    Returns the seed that the folder of a run, RUN/SEED, is named by.

    Raises:
        MissingInput: The name is no whole number.
    """
    if not folder.name.isdecimal():
        raise MissingInput(
            f"{folder} is not named by a seed, a whole number. Move what is not a run elsewhere."
        )
    return int(folder.name)


def _results(folder: Path) -> list[Evaluated]:
    paths = sorted(folder.glob("*/*/metrics.json"))
    unevaluated = sorted(
        f"{path.parent.parent.name} {path.parent.name}"
        for path in folder.glob("*/*/model.json")
        if not path.with_name("metrics.json").exists()
    )
    if unevaluated:
        log.warning("trained but not evaluated: %s", ", ".join(unevaluated))
    if not paths:
        raise MissingInput(
            f"There are no results: {folder} holds no RUN/SEED/metrics.json. Run `dvc repro`, or "
            "name a preset whose figures were recorded: python -m train results demo."
        )
    return [_evaluated(path) for path in paths]


def _evaluated(path: Path) -> Evaluated:
    """Returns the run whose metrics.json is `path`."""
    cost_path, fit_path = path.with_name("cost.json"), path.with_name("fit.json")
    model = ModelDocument.read(path.with_name("model.json"))
    entry = Evaluated(
        run=path.parent.parent.name,
        seed=seed_of(path.parent),
        metrics=MetricsDocument.read(path),
        cost=CostDocument.read(cost_path) if cost_path.exists() else None,
        root_sha256=model.root_sha256,
    )
    if not fit_path.exists():
        return entry
    validation, curve = path.with_name("validation.parquet"), path.with_name("curves.csv")
    training = guards.record_of(
        model,
        FitDocument.read(fit_path),
        run=entry.run,
        validation=pq.read_metadata(validation).num_rows if validation.exists() else None,
        curves=curves.read_csv(curve) if curve.exists() else (),
    )
    return replace(entry, training=training)


def _experiments(folder: Path, preset: str) -> list[Evaluated]:
    paths = sorted((folder / preset).glob("*.json"))
    if not paths:
        known = ", ".join(sorted({path.parent.name for path in folder.glob("*/*.json")}))
        raise MissingInput(
            f"There are no results: {folder / preset} holds no records. Recorded presets: "
            f"{known or 'none'}. `python -m train record {preset}` records those of results/."
        )
    records = [RecordDocument.read(path) for path in paths]
    return [
        Evaluated(
            run=record.run,
            seed=record.seed,
            metrics=record.metrics,
            cost=record.cost,
            root_sha256=record.data.root_sha256,
            training=TrainingRecord(
                run=record.run,
                seed=record.seed,
                fit=record.fit,
                batch_size=guards.batch_size_of(record.params),
                validation=record.data.samples.get("val", 0) / record.data.labels,
            ),
        )
        for record in records
    ]


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known else None


def _deviation(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.stdev(known) if len(known) > 1 else None


def _texts(row: Mapping[str, Any]) -> list[str]:
    """Returns the cells of a row as text, in the order of the headings."""
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
    """Returns a number with a unit prefix: 1.31 M."""
    if value is None:
        return ""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.2f}{unit}"
    return f"{value:.0f}"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
