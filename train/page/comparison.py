"""
The numbers of the report: each run against the flat one, with intervals and counts.

Comes in: results as read from disk. Goes out: one summary per run and way of predicting, and
the long table that is written as comparison.parquet.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from train.components.hierarchy import parents
from train.components.metrics import (
    confusion_counts,
    micp,
    msr,
    msr_macro,
    msr_per_label,
    normalise_rows,
)
from train.page.results import Results, Run, Trained
from train.page.statistics import Flips, Interval, flips, holm, paired_interval

_TYPES: dict[str, pa.DataType] = {
    "run": pa.string(),
    "mode": pa.string(),  # default or full
    "measure": pa.string(),
    "label": pa.string(),  # null: all labels
    "seed": pa.int32(),  # null: the mean over seeds
    "value": pa.float64(),
    "low": pa.float64(),  # 95 % interval, where there is one
    "high": pa.float64(),
    "count": pa.int64(),  # test pictures behind the value
}
SCHEMA = pa.schema(_TYPES)


@dataclass(frozen=True, slots=True)
class Spread:
    """A value per seed. The standard deviation needs two seeds, and is None with one."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return float(np.mean(self.values))

    @property
    def deviation(self) -> float | None:
        """The standard deviation over seeds (n - 1)."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None


@dataclass(frozen=True, slots=True)
class Answers:
    """What one run said of the test pictures with one seed, in one way of predicting."""

    trained: Trained
    predicted: Int[np.ndarray, " image"]

    @property
    def correct(self) -> Bool[np.ndarray, " image"]:
        """Says of each picture whether it was named rightly."""
        return np.asarray(self.trained.label == self.predicted)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run costs: parameters, multiply-accumulates of one picture, seconds of training."""

    params: int
    macs: float
    seconds_total: Spread
    seconds_critical: Spread
    seconds_clustering: Spread | None  # of the flat network that the clusters were found with


@dataclass(frozen=True, slots=True)
class Summary:
    """One line of the results table. Shares are in 0..1; differences are to the flat run."""

    run: Run
    mode: str
    answers: Mapping[int, Answers]
    msr: Spread
    msr_macro: Spread
    msr_white: Spread | None
    micp: Spread
    micp_own: Spread | None
    wrong_inside: Spread  # wrong label, right reference cluster
    wrong_across: Spread  # wrong reference cluster
    cost: Cost
    difference: Interval | None = None
    difference_white: Interval | None = None
    flips: Mapping[int, Flips] = field(default_factory=dict)
    p_values: Mapping[int, float] = field(default_factory=dict)  # after Holm, over the table

    @property
    def name(self) -> str:
        """The run, with the way of predicting where it is not the run's own."""
        return self.run.name if self.mode == "default" else f"{self.run.name} ({self.mode})"


@dataclass(frozen=True, slots=True)
class Comparison:
    """All summaries, the flat one first, and the hierarchy against its control."""

    summaries: tuple[Summary, ...]
    against_control: Interval | None

    @property
    def flat(self) -> Summary:
        """The baseline."""
        return self.summaries[0]

    @property
    def main(self) -> Summary | None:
        """The first run with clusters that were found: the one the answer speaks of."""
        return next((row for row in self.summaries[1:] if not row.run.is_control), None)

    @property
    def control(self) -> Summary | None:
        """The control of the main run: its method, random clusters."""
        return next((row for row in self.summaries[1:] if row.run.is_random), None)


def compare(results: Results, *, resamples: int, seed: int) -> Comparison:
    """Computes every summary; `resamples` and `seed` are those of the bootstrap."""
    baseline = _answers(results.flat, "default")
    summaries = [
        _summary(results, run, mode, baseline, resamples=resamples, seed=seed)
        for run in results.runs
        for mode in _modes(run)
    ]
    comparison = Comparison(summaries=_corrected(summaries), against_control=None)
    main, control = comparison.main, comparison.control
    if main is None or control is None:
        return comparison
    difference = _difference(main.answers, control.answers)
    interval = paired_interval(difference, resamples=resamples, seed=seed)
    return Comparison(summaries=comparison.summaries, against_control=interval)


def shares(answers: Mapping[int, Answers], leaves: int) -> Float[np.ndarray, "leaf leaf"]:
    """Returns the row-normalised test confusion, averaged over seeds; rows are true labels."""
    each = [
        normalise_rows(confusion_counts(one.trained.label, one.predicted, leaves=leaves))
        for one in answers.values()
    ]
    return np.asarray(np.mean(each, axis=0))


def per_label(answers: Mapping[int, Answers], leaves: int) -> Float[np.ndarray, " leaf"]:
    """Returns the success of each label, averaged over seeds; NaN for a label never tested."""
    each = [
        msr_per_label(one.trained.label, one.predicted, leaves=leaves) for one in answers.values()
    ]
    return np.asarray(np.mean(each, axis=0))


def table(results: Results, comparison: Comparison) -> pa.Table:
    """Returns the long table: a row per run, mode, measure, label and seed, sorted by these."""
    rows: list[dict[str, Any]] = []
    for summary in comparison.summaries:
        rows += _rows(summary, results)
    rows.sort(
        key=lambda row: tuple(
            (row[name] is not None, row[name])
            for name in ("run", "mode", "measure", "label", "seed")
        )
    )
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _modes(run: Run) -> list[str]:
    has_full = all(trained.full is not None for trained in run.seeds.values())
    return ["default", "full"] if has_full else ["default"]


def _answers(run: Run, mode: str) -> dict[int, Answers]:
    answers = {}
    for seed, trained in run.seeds.items():
        whole = trained.full if mode == "full" else None
        predicted = trained.predicted if whole is None else whole.argmax(axis=1)
        answers[seed] = Answers(trained=trained, predicted=predicted)
    return answers


def _difference(
    after: Mapping[int, Answers], before: Mapping[int, Answers]
) -> Float[np.ndarray, " image"]:
    pairs = [after[seed].correct.astype(float) - before[seed].correct for seed in after]
    return np.asarray(np.mean(pairs, axis=0))


def _summary(
    results: Results,
    run: Run,
    mode: str,
    baseline: Mapping[int, Answers],
    *,
    resamples: int,
    seed: int,
) -> Summary:
    answers, leaves = _answers(run, mode), len(results.labels)
    white = results.white
    difference = _difference(answers, baseline)
    confusions = {s: shares({s: one}, leaves) for s, one in answers.items()}
    macro = [msr_macro(a.trained.label, a.predicted, leaves=leaves) for a in answers.values()]
    reference = [micp(one, results.reference(s).clusters) for s, one in confusions.items()]
    inside, across = _mistakes(results, answers)
    summary = Summary(
        run=run,
        mode=mode,
        answers=answers,
        msr=Spread(tuple(msr(one.trained.label, one.predicted) for one in answers.values())),
        msr_macro=Spread(tuple(macro)),
        msr_white=_part(answers, white),
        micp=Spread(tuple(reference)),
        micp_own=_own_micp(results, run, confusions),
        wrong_inside=inside,
        wrong_across=across,
        cost=_cost(results, run, mode),
    )
    if run is results.flat:
        return summary
    changed = {s: flips(baseline[s].correct, answers[s].correct) for s in answers}
    return replace(
        summary,
        difference=paired_interval(difference, resamples=resamples, seed=seed),
        difference_white=(
            paired_interval(difference[white], resamples=resamples, seed=seed)
            if white.any()
            else None
        ),
        flips=changed,
        p_values={s: one.p_value for s, one in changed.items()},
    )


def _part(answers: Mapping[int, Answers], chosen: Bool[np.ndarray, " image"]) -> Spread | None:
    """The success on the chosen pictures; None where none is chosen."""
    if not chosen.any():
        return None
    return Spread(tuple(float(one.correct[chosen].mean()) for one in answers.values()))


def _own_micp(
    results: Results, run: Run, confusions: Mapping[int, Float[np.ndarray, "leaf leaf"]]
) -> Spread | None:
    values = []
    for seed, shared in confusions.items():
        own = results.own(run, seed)
        if own is None:
            return None
        values.append(micp(shared, own.clusters))
    return Spread(tuple(values))


def _mistakes(results: Results, answers: Mapping[int, Answers]) -> tuple[Spread, Spread]:
    inside, across = [], []
    for seed, one in answers.items():
        cluster = parents(results.reference(seed).clusters)
        same = cluster[one.trained.label] == cluster[one.predicted]
        inside.append(float(np.mean(same & ~one.correct)))
        across.append(float(np.mean(~same)))
    return Spread(tuple(inside)), Spread(tuple(across))


def _cost(results: Results, run: Run, mode: str) -> Cost:
    fits = [trained.fit for trained in run.seeds.values()]
    first = next(iter(run.seeds.values())).metrics
    flat = [float(trained.fit["total_seconds"]) for trained in results.flat.seeds.values()]
    return Cost(
        params=int(first["params"]),
        macs=float(first["macs_max" if mode == "full" else "macs_expected"]),
        seconds_total=Spread(tuple(float(fit["total_seconds"]) for fit in fits)),
        seconds_critical=Spread(tuple(float(fit["critical_path_seconds"]) for fit in fits)),
        seconds_clustering=Spread(tuple(flat)) if run.grouping else None,
    )


def _corrected(summaries: Sequence[Summary]) -> tuple[Summary, ...]:
    keys = [(place, seed) for place, row in enumerate(summaries) for seed in row.p_values]
    corrected = holm([summaries[place].p_values[seed] for place, seed in keys])
    found = dict(zip(keys, corrected, strict=True))
    return tuple(
        replace(row, p_values={seed: found[place, seed] for seed in row.p_values})
        for place, row in enumerate(summaries)
    )


def _rows(summary: Summary, results: Results) -> list[dict[str, Any]]:
    images, white = len(results.white), int(results.white.sum())
    spreads = {
        "msr": (summary.msr, images),
        "msr_macro": (summary.msr_macro, images),
        "msr_white": (summary.msr_white, white),
        "micp": (summary.micp, images),
        "micp_own": (summary.micp_own, images),
        "wrong_inside_cluster": (summary.wrong_inside, images),
        "wrong_across_clusters": (summary.wrong_across, images),
        "seconds_total": (summary.cost.seconds_total, None),
        "seconds_critical": (summary.cost.seconds_critical, None),
    }
    rows = [
        _row(summary, "params", value=float(summary.cost.params)),
        _row(summary, "macs", value=summary.cost.macs),
    ]
    for measure, (spread, count) in spreads.items():
        if spread is not None:
            rows.append(_row(summary, measure, value=spread.mean, count=count))
            pairs = zip(results.seeds, spread.values, strict=True)
            rows += [
                _row(summary, measure, seed=seed, value=value, count=count) for seed, value in pairs
            ]
    for measure, interval, count in (
        ("difference", summary.difference, images),
        ("difference_white", summary.difference_white, white),
    ):
        if interval is not None:
            found = {"value": interval.mean, "low": interval.low, "high": interval.high}
            rows.append(_row(summary, measure, count=count, **found))
    return rows + _row_per_flip(summary, images) + _row_per_label(summary, results)


def _row_per_flip(summary: Summary, images: int) -> list[dict[str, Any]]:
    return [
        _row(summary, measure, seed=seed, value=float(value), count=images)
        for seed, changed in summary.flips.items()
        for measure, value in (
            ("fixed", changed.fixed),
            ("broken", changed.broken),
            ("mcnemar_p", changed.p_value),
            ("mcnemar_p_holm", summary.p_values[seed]),
        )
    ]


def _row_per_label(summary: Summary, results: Results) -> list[dict[str, Any]]:
    tested = np.bincount(results.test_labels, minlength=len(results.labels))
    success = per_label(summary.answers, len(results.labels))
    return [
        _row(summary, "msr", label=label, value=float(success[leaf]), count=int(tested[leaf]))
        for leaf, label in enumerate(results.labels)
        if tested[leaf]
    ]


def _row(summary: Summary, measure: str, **values: Any) -> dict[str, Any]:
    return {
        **dict.fromkeys(SCHEMA.names),
        "run": summary.run.name,
        "mode": summary.mode,
        "measure": measure,
        **values,
    }
