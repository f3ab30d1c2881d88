"""The results of every run: accuracy, difference to flat, routing, mistakes and cost."""

from collections.abc import Mapping
from dataclasses import dataclass

from train.page.blocks import PageSection, ReportFigure, ReportTable, table
from train.page.comparison import RunComparison
from train.page.cost import ImageTime, TimingConditions
from train.page.figures import Drawing
from train.page.formatting import (
    count,
    millions,
    milliseconds,
    p_value,
    plain_spread,
    seconds,
    spread,
    with_intervals,
)
from train.page.results import Results
from train.page.spread import Spread
from train.page.summary import RunSummary

_LONG = 12  # rows; with more, the tables of routing and cost are folded
_ROUTING = ("router_accuracy", "oracle_msr", "route_msr", "msr_full")  # keys of metrics.json
_NOTES = {
    "differences": "Difference to flat with its 95 % interval over test images. Coloured: the "
    "interval over seeds excludes zero too. Grey: no conclusion.",
    "cost": "Accuracy against operations, means over seeds; bars are one standard deviation.",
}


@dataclass(frozen=True, slots=True)
class ResultsContent:
    """What `templates/results.html` shows. `changes` is None where flat alone was trained."""

    images: int
    white: int
    labels: int
    seeds: tuple[int, ...]
    absent: tuple[str, ...]
    accuracy: ReportTable
    figures: tuple[ReportFigure, ...]
    details: tuple[ReportTable, ...]
    are_details_folded: bool
    changes: ReportTable | None


def section(
    results: Results, comparison: RunComparison, drawings: Mapping[str, Drawing]
) -> PageSection:
    """Returns the tables of every run; of `drawings` those named differences and cost."""
    images, white = len(results.white), int(results.white.sum())
    details = (routing(comparison), mistakes(comparison), costs(comparison))
    content = ResultsContent(
        images=images,
        white=white,
        labels=len(results.labels),
        seeds=results.seeds,
        absent=results.absent,
        accuracy=accuracy(comparison, images=images, white=white),
        figures=tuple(
            ReportFigure(drawings[name], note) for name, note in _NOTES.items() if name in drawings
        ),
        details=tuple(each for each in details if each is not None),
        are_details_folded=len(comparison.summaries) > _LONG,
        changes=_changes(comparison) if comparison.summaries[1:] else None,
    )
    return PageSection("results", "Results", content)


def accuracy(comparison: RunComparison, *, images: int, white: int) -> ReportTable:
    """Returns accuracy, difference to flat and MICP of every run on the test images."""
    head = (
        "run",
        "grouping",
        "accuracy, %",
        "accuracy, mean over labels, %",
        "difference to flat, points [95\u00a0% intervals]",
        "MICP, reference clusters, %",
        "MICP, own clusters, %",
        "path consistency, %",
        f"accuracy on white, % (n = {count(white)})",
    )
    rows = [
        (
            row.name,
            row.run.grouping or "none",
            spread(row.msr),
            spread(row.msr_macro),
            with_intervals(row.difference),
            spread(row.micp),
            spread(row.micp_own),
            spread(row.consistency),
            spread(row.msr_white),
        )
        for row in comparison.summaries
    ]
    caption = f"Accuracy on the test images (n = {count(images)}), means over seeds."
    return table(head, rows, caption=caption, words=(0, 1), marked=(0,))


def routing(comparison: RunComparison) -> ReportTable | None:
    """Returns how well each run routes; None where `evaluate` measured it for no run."""
    rows = []
    for row in comparison.summaries:
        figures = [row.run.figure(name) for name in _ROUTING] if row.mode == "default" else []
        known = [spread(Spread(values)) for values in figures if values is not None]
        if len(known) == len(_ROUTING):
            rows.append((row.name, *known))
    caption = (
        "Routing. Sent to the right cluster: the share of images whose own cluster with the "
        "highest probability holds the true label. Perfect routing: the accuracy if every image "
        "went to the right cluster; the errors that remain are those of the subnetworks. By default "
        "uppsala and hiernet follow one route, and the other methods combine several outputs."
    )
    head = (
        "run",
        "sent to the right cluster, %",
        "accuracy with perfect routing, %",
        "accuracy by default, %",
        "accuracy, full, %",
    )
    return table(head, rows, caption=caption) if rows else None


def mistakes(comparison: RunComparison) -> ReportTable | None:
    """Returns how severe the mistakes are in the given tree; None where the data has no tree."""
    rows = [
        (
            row.name,
            spread(row.msr),
            plain_spread(row.severity),
            plain_spread(row.average_cost),
            "" if row.distance_at_5 is None else plain_spread(row.distance_at_5),
            spread(row.node_f1),
            spread(row.path_f1),
        )
        for row in comparison.summaries
        if row.severity is not None and row.average_cost is not None
    ]
    caption = (
        "Mistakes in the given tree (grouping given, which comes with the data). The height of a "
        "mistake is that of the lowest node above the true and the predicted label: in a tree of "
        "two levels, 1 inside a group and 2 across groups; in a deeper tree up to its depth. Severity is the mean height over the "
        "mistakes; cost is the mean over all images, where a right image counts 0. Severity alone "
        "falls with every mild mistake added. Distance at 5 is the mean height over the five "
        "likeliest labels of all images. Node F1 compares the nodes on the path to the "
        "predicted label with those on the path to the true label, mean over images. Path F1 "
        "compares whole paths, mean over labels."
    )
    head = (
        "run",
        "accuracy, %",
        "severity",
        "average cost",
        "distance at 5",
        "node F1, %",
        "path F1, %",
    )
    return table(head, rows, caption=caption, marked=(0,)) if rows else None


def costs(comparison: RunComparison) -> ReportTable:
    """Returns parameters, operations and times of every run."""
    head = (
        "run",
        "parameters, M",
        "MACs of an image, M",
        "MACs, × flat",
        "training, s",
        "critical path, s",
        "training with clustering root, s",
        "critical path with it, s",
        "an image alone, ms (p95; calls)",
        "an image in batches of 256, ms (p95; calls)",
    )
    flat = comparison.flat.cost.macs
    timed = comparison.flat.cost.timed
    rows = [
        (
            row.name,
            millions(row.cost.params),
            millions(row.cost.macs),
            f"{row.cost.macs / flat:.2f}" if flat else "",
            seconds(row.cost.seconds_total.mean),
            seconds(row.cost.seconds_critical.mean),
            *_with_root(row),
            _time(row.cost.alone, row.cost.timed, flat=timed),
            _time(row.cost.in_batch, row.cost.timed, flat=timed),
        )
        for row in comparison.summaries
    ]
    caption = (
        "Cost. MACs are the expected multiply-accumulate operations of one test image (of all "
        "branches for full). Seconds are means over seeds on one machine. The critical path is the "
        "time when networks that do not depend on one another train in parallel. The clustering "
        "root is the flat network whose confusion gave the clusters. Milliseconds are medians over "
        "calls, means over seeds; in brackets the 95th percentile of the slowest seed and the timed "
        f"calls of all seeds. {_machine(timed)}An empty cell was not measured."
    )
    return table(head, rows, caption=caption, marked=(0,))


def _time(
    time: ImageTime | None, timed: TimingConditions | None, *, flat: TimingConditions | None
) -> str:
    """Returns median, 95th percentile and calls, with a mark where the times are not comparable."""
    if time is None or timed is None:
        return ""
    marks = "†" if flat is None or timed.machines != flat.machines else ""
    marks += {True: "", False: "‡", None: "§"}[timed.is_quiet]
    median, p95 = milliseconds(time.median), milliseconds(time.p95)
    return f"{median}{marks} ({p95}; {count(time.calls)})"


def _machine(flat: TimingConditions | None) -> str:
    if flat is None:
        return ""
    return (
        f"Flat was timed on: {'; '.join(flat.machines)}. Times with a mark cannot be compared: "
        "† on another machine than flat, ‡ beside other work on the same cores, § the "
        "load was not recorded. "
    )


def _changes(comparison: RunComparison) -> ReportTable:
    rows = [
        (
            row.name,
            str(seed),
            count(flips.fixed),
            count(flips.broken),
            p_value(flips.p_value),
            p_value(row.p_values[seed]),
        )
        for row in comparison.summaries
        for seed, flips in row.flips.items()
    ]
    caption = (
        "Test images fixed (flat wrong, run right) and broken (flat right, run wrong), with the "
        "two-sided p of the exact McNemar test, before and after Holm's correction over this table."
    )
    return table(("run", "seed", "fixed", "broken", "p", "p, Holm"), rows, caption=caption)


def _with_root(row: RunSummary) -> tuple[str, str]:
    root = row.cost.seconds_clustering
    if root is None:
        return "", ""
    total, critical = row.cost.seconds_total.mean, row.cost.seconds_critical.mean
    return seconds(total + root.mean), seconds(critical + root.mean)
