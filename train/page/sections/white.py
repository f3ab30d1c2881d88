"""Accuracy on test images with a white background against that on all other test images."""

from dataclasses import dataclass

import numpy as np

from train.page.blocks import PageSection, ReportTable, table
from train.page.comparison import RunComparison
from train.page.formatting import between, count, percent, points, spread
from train.page.results import Results

_LONG = 12  # rows; a longer table is folded


@dataclass(frozen=True, slots=True)
class WhiteContent:
    """What `templates/white.html` shows; None where no test image has a white background."""

    accuracy: ReportTable | None
    is_folded: bool


def section(results: Results, comparison: RunComparison) -> PageSection:
    """Returns the accuracy of every run on white backgrounds and elsewhere."""
    white = int(results.white.sum())
    rest = len(results.white) - white
    accuracy = _accuracy(results, comparison, white=white, rest=rest) if white else None
    content = WhiteContent(accuracy, is_folded=len(comparison.summaries) > _LONG)
    return PageSection("white", "White backgrounds", content)


def _accuracy(results: Results, comparison: RunComparison, *, white: int, rest: int) -> ReportTable:
    rows = []
    for row in comparison.summaries:
        others = [float(each.correct[~results.white].mean()) for each in row.predictions.values()]
        rows.append(
            (
                row.name,
                spread(row.msr_white),
                percent(float(np.mean(others))) if rest else "",
                points(row.difference_white.mean) if row.difference_white else "",
                between(row.difference_white) if row.difference_white else "",
            )
        )
    head = (
        "run",
        f"accuracy on white, % (n = {count(white)})",
        f"accuracy elsewhere, % (n = {count(rest)})",
        "difference to flat on white, points",
        "95 % interval over images",
    )
    caption = "White backgrounds are simple compositions: the Uppsala report found them easier."
    return table(head, rows, caption=caption)
