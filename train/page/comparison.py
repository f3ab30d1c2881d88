"""
Compares every run with the flat run, and every hierarchy with its controls.

Takes results as read from disk. Gives a summary of each run in each mode, a control group for each
hierarchy that has controls, and the long table written as comparison.parquet.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from train.evaluation.statistics import Flips, holm
from train.page.controls import ControlGroup, control_groups
from train.page.differences import PairedDifference
from train.page.results import FLAT as _FLAT
from train.page.results import Results
from train.page.summary import RunSummary, changes, modes, paired_difference, per_label, summarise
from train.page.verdict import CONTROLS, ControlVerdict, MethodVerdict, verdicts

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
    """
    All summaries, that of flat first, and the hierarchies against their controls.

    `resamples` and `seed` are those of the bootstrap behind every interval over images.
    """

    summaries: tuple[RunSummary, ...]
    control_groups: tuple[ControlGroup, ...]
    resamples: int
    seed: int
    verdicts: tuple[MethodVerdict, ...] = ()
    """On each of `leading`, in the same order."""

    @property
    def flat(self) -> RunSummary:
        """The baseline."""
        return self.summaries[0]

    @property
    def hierarchies(self) -> tuple[RunSummary, ...]:
        """The runs with a predicted or given grouping, as they predict by default."""
        return tuple(
            row for row in self.summaries[1:] if row.mode == "default" and not row.run.is_control
        )

    @property
    def leading(self) -> tuple[RunSummary, ...]:
        """The first hierarchy of each method: the runs that the answer is about."""
        first: dict[str, RunSummary] = {}
        for row in self.hierarchies:
            first.setdefault(row.run.method, row)
        return tuple(first.values())

    @property
    def main(self) -> RunSummary | None:
        """The first hierarchy; None where flat alone was trained."""
        return next(iter(self.hierarchies), None)

    def full(self, row: RunSummary) -> RunSummary | None:
        """The same run with the forward pass over all branches; None where that was not stored."""
        key = (row.run.name, "full")
        return next((each for each in self.summaries if (each.run.name, each.mode) == key), None)

    def control_group(self, row: RunSummary) -> ControlGroup | None:
        """A hierarchy against its controls; None where it has none."""
        groups = self.control_groups
        return next((group for group in groups if group.run.name == row.run.name), None)

    def difference(self, after: RunSummary, before: RunSummary) -> PairedDifference:
        """The accuracy of `after` minus that of `before`, over the seeds that both have."""
        return paired_difference(
            changes(after.predictions, before.predictions),
            resamples=self.resamples,
            seed=self.seed,
        )


def compare(results: Results, *, resamples: int, seed: int) -> RunComparison:
    """Compares all runs of `results`; `resamples` and `seed` are those of the bootstrap."""
    summaries = _corrected(
        [
            summarise(results, run, mode, resamples=resamples, seed=seed)
            for run in results.runs
            for mode in modes(run)
        ]
    )
    groups = control_groups(summaries, resamples=resamples, seed=seed)
    comparison = RunComparison(summaries, groups, resamples, seed)
    return replace(comparison, verdicts=verdicts(comparison.leading, groups))


def table(results: Results, comparison: RunComparison) -> pa.Table:
    """Returns the long table: one row for each value of `KEY`, sorted by it."""
    rows: list[dict[str, Any]] = []
    for summary in comparison.summaries:
        rows += _rows(summary, results)
    for group in comparison.control_groups:
        rows += _rows_of_controls(group, images=len(results.white))
    for summary, verdict in zip(comparison.leading, comparison.verdicts, strict=True):
        for each in (verdict.flat, *verdict.controls):
            rows += _rows_of_verdict(summary, each, images=len(results.white))
    rows.sort(key=lambda row: tuple((row[name] is not None, row[name]) for name in KEY))
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _corrected(summaries: Sequence[RunSummary]) -> tuple[RunSummary, ...]:
    """Holm's correction over every run and seed of the table."""
    keys = [(index, seed) for index, row in enumerate(summaries) for seed in row.p_values]
    corrected = holm([summaries[index].p_values[seed] for index, seed in keys])
    p_values = dict(zip(keys, corrected, strict=True))
    return tuple(
        replace(row, p_values={seed: p_values[index, seed] for seed in row.p_values})
        for index, row in enumerate(summaries)
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
        "distance_at_5": (summary.distance_at_5, images),
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
    for measure, difference, count in (
        ("difference", summary.difference, images),
        ("difference_white", summary.difference_white, white),
        ("difference_wrong_inside", summary.change_inside, images),
        ("difference_wrong_across", summary.change_across, images),
    ):
        if difference is not None:
            rows += _rows_of(summary, measure, difference, against=_FLAT, count=count)
    rows += _row_per_flip(summary, summary.flips, summary.p_values, against=_FLAT, count=images)
    return rows + _row_per_label(summary, results)


def _rows_of_controls(group: ControlGroup, *, images: int) -> list[dict[str, Any]]:
    rows = []
    for control in group.controls:
        name = control.summary.run.name
        pairs = [(group.run, control.difference), (group.full, control.difference_full)]
        for row, difference in pairs:
            if row is not None and difference is not None:
                rows += _rows_of(row, "difference", difference, against=name, count=images)
        rows += _row_per_flip(
            group.run, control.flips, control.p_values, against=name, count=images
        )
    return rows


def _rows_of_verdict(
    summary: RunSummary, verdict: ControlVerdict, *, images: int
) -> list[dict[str, Any]]:
    """The difference behind a verdict, and its p value before and after Holm's correction."""
    difference, against = verdict.difference, CONTROLS.get(verdict.control, _FLAT)
    if difference is None:
        return []
    rows = _rows_of(summary, "verdict_difference", difference, against=against, count=images)
    if verdict.p_value is None:
        return rows
    values = {"verdict_p": difference.p_value, "verdict_p_holm": verdict.p_value}
    return rows + [
        _row(summary, name, against=against, value=value) for name, value in values.items()
    ]


def _rows_of(
    summary: RunSummary, measure: str, difference: PairedDifference, *, against: str, count: int
) -> list[dict[str, Any]]:
    """A difference with its interval over images, and with that over seeds where there is one."""
    intervals = {measure: difference.over_images, f"{measure}_over_seeds": difference.over_seeds}
    return [
        _row(
            summary,
            name,
            against=against,
            count=count,
            value=interval.mean,
            low=interval.low,
            high=interval.high,
        )
        for name, interval in intervals.items()
        if interval is not None
    ]


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
    accuracy = per_label(summary.predictions, len(results.labels))
    return [
        _row(summary, "msr", label=label, value=float(accuracy[leaf]), count=int(tested[leaf]))
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
