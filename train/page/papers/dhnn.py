"""DHNN's F1 and accuracies of paths and nodes (Koo and others), and our runs below them."""

from collections.abc import Sequence

from train.page import published
from train.page.blocks import ReportTable, table
from train.page.comparison import RunComparison
from train.page.formatting import spread
from train.page.papers.part import PaperPart, backbone, epochs
from train.page.published import DhnnF1
from train.page.results import Results
from train.page.summary import RunSummary


def part(results: Results, comparison: RunComparison, ours: Sequence[RunSummary]) -> PaperPart:
    """Returns the paper's two tables above flat and the runs `ours`."""
    rows = (comparison.flat, *ours)
    return PaperPart(
        name="DHNN",
        there=published.DHNN_DATA,
        here=f"Flat: {epochs(results.flat)}. DHNN: {epochs(ours[0].run)}.",
        tables=(_f1(rows), _accuracy(rows)),
        note=published.DHNN_DOUBT,
    )


def _f1(ours: Sequence[RunSummary]) -> ReportTable:
    """A row for each model and a column for each backbone; ours in a column of its own."""
    rows: list[tuple[str, ...]] = [
        (model, *(_cell(cell) for cell in cells), "") for model, cells in published.DHNN.items()
    ]
    theirs = len(rows)
    nothing = [""] * len(published.DHNN_BACKBONES)
    for row in ours:
        if row.node_f1 is not None:
            cell = f"{spread(row.path_f1, digits=2)} /\n{spread(row.node_f1, digits=2)}"
            rows.append((f"here ({row.run.name}, {backbone(row)})", *nothing, cell))
    return table(
        ("Open Images", *published.DHNN_BACKBONES, "here"),
        rows,
        caption="DHNN's F1 in percent, of paths / of nodes, mean ± standard deviation; ours below, "
        "in the last column, over seeds and in the given tree.",
        marked=range(theirs, len(rows)),
    )


def _cell(cell: DhnnF1) -> str:
    mark = " *" if cell.path > cell.node else ""
    path = f"{cell.path:.2f} ± {cell.path_deviation:.2f}"
    return f"{path} /\n{cell.node:.2f} ± {cell.node_deviation:.2f}{mark}"


def _accuracy(ours: Sequence[RunSummary]) -> ReportTable:
    rows: list[tuple[str, ...]] = [
        (row.model, f"{row.path:.1f}", f"{row.node:.1f}", f"{row.node - row.path:+.1f}")
        for row in published.DHNN_REAL
    ]
    theirs = len(rows)
    for row in ours:
        if row.node_accuracy is not None:
            more = 100 * (row.node_accuracy.mean - row.msr.mean)
            rows.append(
                (
                    f"here ({row.run.name})",
                    spread(row.msr),
                    spread(row.node_accuracy),
                    f"{more:+.1f}",
                )
            )
    return table(
        ("REAL", "paths, %", "nodes, %", "nodes - paths, points"),
        rows,
        caption="DHNN's accuracies, and ours below, means over seeds, in the given tree. A path is "
        "right if all its nodes are right, which is the accuracy of labels. Nodes are compared "
        "level by level; a path that ends early repeats its leaf.",
        marked=range(theirs, len(rows)),
    )
