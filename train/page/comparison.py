"""
The numbers of the report: each run against the flat one and against its controls.

Comes in: results as read from disk. Goes out: one summary per run and way of predicting, one
control_group per hierarchy that has controls, and the long table written as comparison.parquet.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from train.evaluation.statistics import Flips, Interval, holm
from train.page.controls import ControlGroup, control_groups
from train.page.results import FLAT as _FLAT
from train.page.results import Results
from train.page.summary import RunSummary, modes, per_label, summarise

_TYPES: dict[str, pa.DataType] = {
    "run": pa.string(),
    "mode": pa.string(),  # default or full
    "measure": pa.string(),
    "against": pa.string(),  # the other run of a difference; null: of none
    "label": pa.string(),  # null: all labels
    "seed": pa.int32(),  # null: the mean over seeds
    "value": pa.float64(),
    "low": pa.float64(),  # 95 % interval, where there is one
    "high": pa.float64(),
    "count": pa.int64(),  # test images behind the value
}
SCHEMA = pa.schema(_TYPES)
KEY = ("run", "mode", "measure", "against", "label", "seed")


@dataclass(frozen=True, slots=True)
class RunComparison:
    """All summaries, the flat one first, and the hierarchies against their controls."""

    summaries: tuple[RunSummary, ...]
    control_groups: tuple[ControlGroup, ...]

    @property
    def flat(self) -> RunSummary:
        """The baseline."""
        return self.summaries[0]

    @property
    def hierarchies(self) -> tuple[RunSummary, ...]:
        """The runs with clusters that were found or given, as they predict by default."""
        return tuple(
            row for row in self.summaries[1:] if row.mode == "default" and not row.run.is_control
        )

    @property
    def leading(self) -> tuple[RunSummary, ...]:
        """The first hierarchy of each method: those that the answer speaks of."""
        first: dict[str, RunSummary] = {}
        for row in self.hierarchies:
            first.setdefault(row.run.method, row)
        return tuple(first.values())

    @property
    def main(self) -> RunSummary | None:
        """The first of them all."""
        return next(iter(self.hierarchies), None)

    def full(self, row: RunSummary) -> RunSummary | None:
        """The same run with every network executed; None where that was not stored."""
        wanted = (row.run.name, "full")
        return next((one for one in self.summaries if (one.run.name, one.mode) == wanted), None)

    def control_group(self, row: RunSummary) -> ControlGroup | None:
        """A hierarchy against its controls; None where it has none."""
        return next((one for one in self.control_groups if one.run.name == row.run.name), None)


def compare(results: Results, *, resamples: int, seed: int) -> RunComparison:
    """Computes every summary and control_group; `resamples` and `seed` are those of the bootstrap."""
    summaries = _corrected(
        [
            summarise(results, run, mode, resamples=resamples, seed=seed)
            for run in results.runs
            for mode in modes(run)
        ]
    )
    return RunComparison(summaries, control_groups(summaries, resamples=resamples, seed=seed))


def table(results: Results, comparison: RunComparison) -> pa.Table:
    """Returns the long table: one row for each value of `KEY`, sorted by it."""
    rows: list[dict[str, Any]] = []
    for summary in comparison.summaries:
        rows += _rows(summary, results)
    for control_group in comparison.control_groups:
        rows += _rows_of_controls(control_group, images=len(results.white))
    rows.sort(key=lambda row: tuple((row[name] is not None, row[name]) for name in KEY))
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _corrected(summaries: Sequence[RunSummary]) -> tuple[RunSummary, ...]:
    keys = [(place, seed) for place, row in enumerate(summaries) for seed in row.p_values]
    corrected = holm([summaries[place].p_values[seed] for place, seed in keys])
    found = dict(zip(keys, corrected, strict=True))
    return tuple(
        replace(row, p_values={seed: found[place, seed] for seed in row.p_values})
        for place, row in enumerate(summaries)
    )


def _rows(summary: RunSummary, results: Results) -> list[dict[str, Any]]:
    images, white = len(results.white), int(results.white.sum())
    spreads = {
        "msr": (summary.msr, images),
        "msr_macro": (summary.msr_macro, images),
        "msr_white": (summary.msr_white, white),
        "micp": (summary.micp, images),
        "micp_own": (summary.micp_own, images),
        "consistency": (summary.consistency, images),
        "wrong_inside_cluster": (summary.wrong_inside, images),
        "wrong_across_clusters": (summary.wrong_across, images),
        "severity": (summary.severity, images),
        "average_cost": (summary.average_cost, images),
        "node_f1": (summary.node_f1, images),
        "node_accuracy": (summary.node_accuracy, images),
        "path_f1": (summary.path_f1, images),
        "seconds_total": (summary.cost.seconds_total, None),
        "seconds_critical": (summary.cost.seconds_critical, None),
    }
    rows = [
        _row(summary, "params", value=summary.cost.params),
        _row(summary, "macs", value=summary.cost.macs),
    ]
    for measure, (spread, count) in spreads.items():
        if spread is not None:
            rows.append(_row(summary, measure, value=spread.mean, count=count))
            pairs = zip(summary.predictions, spread.values, strict=True)
            rows += [
                _row(summary, measure, seed=seed, value=value, count=count) for seed, value in pairs
            ]
    for measure, interval, count in (
        ("difference", summary.difference, images),
        ("difference_white", summary.difference_white, white),
    ):
        if interval is not None:
            rows.append(_row_of(summary, measure, interval, against=_FLAT, count=count))
    rows += _row_per_flip(summary, summary.flips, summary.p_values, against=_FLAT, count=images)
    return rows + _row_per_label(summary, results)


def _rows_of_controls(control_group: ControlGroup, *, images: int) -> list[dict[str, Any]]:
    rows = []
    for one in control_group.controls:
        name = one.summary.run.name
        pairs = [(control_group.run, one.difference), (control_group.full, one.difference_full)]
        rows += [
            _row_of(row, "difference", interval, against=name, count=images)
            for row, interval in pairs
            if row is not None and interval is not None
        ]
        rows += _row_per_flip(
            control_group.run, one.flips, one.p_values, against=name, count=images
        )
    return rows


def _row_of(
    summary: RunSummary, measure: str, interval: Interval, *, against: str, count: int
) -> dict[str, Any]:
    found = {"value": interval.mean, "low": interval.low, "high": interval.high}
    return _row(summary, measure, against=against, count=count, **found)


def _row_per_flip(
    summary: RunSummary,
    flips: Mapping[int, Flips],
    p_values: Mapping[int, float],
    *,
    against: str,
    count: int,
) -> list[dict[str, Any]]:
    return [
        _row(summary, measure, against=against, seed=seed, value=float(value), count=count)
        for seed, changed in flips.items()
        for measure, value in (
            ("fixed", changed.fixed),
            ("broken", changed.broken),
            ("mcnemar_p", changed.p_value),
            ("mcnemar_p_holm", p_values[seed]),
        )
    ]


def _row_per_label(summary: RunSummary, results: Results) -> list[dict[str, Any]]:
    tested = np.bincount(results.test_labels, minlength=len(results.labels))
    success = per_label(summary.predictions, len(results.labels))
    return [
        _row(summary, "msr", label=label, value=float(success[leaf]), count=int(tested[leaf]))
        for leaf, label in enumerate(results.labels)
        if tested[leaf]
    ]


def _row(summary: RunSummary, measure: str, **values: Any) -> dict[str, Any]:
    return {
        **dict.fromkeys(SCHEMA.names),
        "run": summary.run.name,
        "mode": summary.mode,
        "measure": measure,
        **values,
    }
