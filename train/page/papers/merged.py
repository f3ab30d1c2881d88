"""The claims of the merged networks' paper (Dutt and others 2017), and what our runs measured."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from train.evaluation.statistics import Interval
from train.page import published
from train.page.blocks import ReportTable, table
from train.page.comparison import RunComparison
from train.page.differences import PairedDifference, t_interval
from train.page.formatting import (
    NO_CONCLUSION,
    between,
    brief,
    percent,
    points,
    seconds,
)
from train.page.papers.part import PaperPart, epochs
from train.page.published import MergedClaim
from train.page.results import Results
from train.page.summary import RunSummary

_SHARING = ("merge", "separate")  # the parameters of `merged` that decide what is shared


def part(results: Results, comparison: RunComparison, ours: Sequence[RunSummary]) -> PaperPart:
    """Returns errors and seconds of the runs `ours`, and the paper's claims beside them."""
    return PaperPart(
        name="Merged networks",
        there=published.MERGED_DATA,
        here=f"Flat: {epochs(results.flat)}. Merged: {epochs(ours[0].run)}.",
        tables=(_errors(comparison, ours), _claims(comparison, ours)),
    )


def _errors(comparison: RunComparison, ours: Sequence[RunSummary]) -> ReportTable:
    apart = [row for row in ours if _own(row)["separate"]]
    base = apart[0].cost.seconds_total.mean if apart else None
    flat = comparison.flat
    rows: list[tuple[str, ...]] = [
        ("flat", "", percent(1 - flat.msr.mean), "", seconds(flat.cost.seconds_total.mean), "")
    ]
    for row in ours:
        took = row.cost.seconds_total.mean
        rows.append(
            (
                row.run.name,
                _sharing(row),
                percent(_figure(row, "labels")),
                percent(_figure(row, "categories")),
                seconds(took),
                f"{took / base:.2f}" if base else "",
            )
        )
    head = (
        "here",
        "stages shared",
        "error of labels, %",
        "error of categories, %",
        "training, s",
        "training / training of apart",
    )
    return table(
        head,
        rows,
        caption="Merged networks here, means over seeds, each adapted with the alpha that the "
        "validation images chose or that its run sets. Apart: two networks trained one after the "
        "other.",
        words=(0, 1),
        marked=range(len(rows)),
    )


def _claims(comparison: RunComparison, ours: Sequence[RunSummary]) -> ReportTable:
    runs = _decisive(ours)
    return table(
        ("claim", "the paper's claim", "here"),
        [
            (str(number), claim.text, _verdict(claim, runs, comparison))
            for number, claim in enumerate(published.MERGED_CLAIMS, start=1)
        ],
        caption="The claims of the merged networks' paper, and what the runs above measured, with "
        "their own alpha: errors and seconds in the order of the claim, of runs that are alike in "
        "everything else. The claim that the first runs have lower values than the second is "
        "answered by yes or no only where the 95 % intervals of the differences exclude zero: over "
        "seeds, and for labels over test images too; the pair of runs that decides follows with its intervals. "
        "Where the claim is that both are as good, the values stand alone. Claims on alpha are "
        "measured by the benchmark `adaptation`.",
        words=(0, 1, 2),
    )


def _decisive(ours: Sequence[RunSummary]) -> dict[str, RunSummary]:
    """The runs that differ from the first in what they share alone, named as in a `MergedClaim`."""
    runs: dict[str, RunSummary] = {}
    for row in ours:
        if _settings(row) == _settings(ours[0]):
            runs.setdefault(_sharing(row), row)
    return runs


def _settings(row: RunSummary) -> dict[str, object]:
    """What runs must have in common to be compared: everything but what their branches share."""
    params = row.run.first.model.params
    own = {name: value for name, value in _own(row).items() if name not in _SHARING}
    others = {name: value for name, value in params.items() if name != "merged"}
    return {**own, **others, "grouping": row.run.grouping, "seeds": (*row.run.seeds,)}


def _verdict(claim: MergedClaim, runs: Mapping[str, RunSummary], comparison: RunComparison) -> str:
    """What the runs measured of a claim, a part for each figure; "" where a run is missing."""
    if not claim.figures or not {*claim.lower, *claim.higher} <= runs.keys():
        return ""
    texts = []
    for name in claim.figures:
        lower, higher = ([runs[run] for run in side] for side in (claim.lower, claim.higher))
        if any(_by_seed(row, name) is None for row in (*lower, *higher)):
            continue
        as_text, unit = (seconds, "s") if name == "seconds" else (percent, "%")
        values = " against ".join(
            " and ".join(as_text(_figure(row, name)) for row in side) for side in (lower, higher)
        )
        text = f"{name}: {values}\u00a0{unit}"
        if not claim.is_equal:
            margins = [_margin(comparison, low, high, name) for low in lower for high in higher]
            text = f"{name}: {_holds(margins)}, {values}\u00a0{unit}{_with_intervals(_deciding(margins), name)}"
        texts.append(text)
    return "; ".join(texts)


def _margin(
    comparison: RunComparison, lower: RunSummary, higher: RunSummary, name: str
) -> PairedDifference:
    """By how much `lower` lies below `higher`; a figure of whole runs has no interval over images."""
    if name == "labels":
        return comparison.difference(lower, higher)
    pairs = zip(_by_seed(higher, name) or (), _by_seed(lower, name) or (), strict=True)
    by_seed = tuple(high - low for high, low in pairs)
    over_seeds = t_interval(by_seed)
    mean = float(np.mean(by_seed))
    return PairedDifference(over_seeds or Interval(mean, mean, mean), by_seed, over_seeds)


def _holds(margins: Sequence[PairedDifference]) -> str:
    if any(margin.seeds < 2 for margin in margins):
        return NO_CONCLUSION
    if all(margin.is_better for margin in margins):
        return "yes"
    return "no" if any(margin.is_worse for margin in margins) else "not shown"


def _deciding(margins: Sequence[PairedDifference]) -> PairedDifference:
    """The pair behind the verdict: one that contradicts the claim, else the least certain one."""
    worse = [margin for margin in margins if margin.is_worse]
    return min(worse or margins, key=_lowest)


def _lowest(margin: PairedDifference) -> float:
    intervals = (margin.over_images, margin.over_seeds)
    return min(interval.low for interval in intervals if interval is not None)


def _with_intervals(margin: PairedDifference, name: str) -> str:
    """A margin of the figure `name` with its intervals; "" with one seed."""
    over = margin.over_seeds
    if over is None:
        return ""
    if name == "labels":
        return f" (deciding pair {brief(margin)} points)"
    if name == "seconds":
        ends = f"{over.low:+.1f} to {over.high:+.1f}"
        text, unit = f"{margin.mean:+.1f} [{ends}".replace("-", "−"), "s"
    else:
        text, unit = f"{points(margin.mean)} [{between(over)}", "points"
    return f" (deciding pair {text} over {margin.seeds} seeds] {unit})"


def _figure(row: RunSummary, name: str) -> float:
    """One of the figures of a `MergedClaim`, mean over seeds; NaN where it was not measured."""
    values = _by_seed(row, name)
    return float(np.mean(values)) if values else math.nan


def _by_seed(row: RunSummary, name: str) -> tuple[float, ...] | None:
    """A figure of a `MergedClaim` for each seed; None where a seed was not measured."""
    if name == "seconds":
        return row.cost.seconds_total.values
    if name == "labels":
        return tuple(1 - value for value in row.msr.values)
    accuracies = [trained.metrics.router_accuracy for trained in row.run.seeds.values()]
    known = tuple(1 - float(value) for value in accuracies if value is not None)
    return known if len(known) == len(accuracies) else None


def _sharing(row: RunSummary) -> str:
    return "apart" if _own(row)["separate"] else str(_own(row)["merge"])


def _own(row: RunSummary) -> Mapping[str, object]:
    """The section `merged` of a run's parameters."""
    section: Mapping[str, object] = row.run.first.model.params["merged"]
    return section
