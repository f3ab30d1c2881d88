"""Accuracy on test images with a white background against that on all other test images."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from train.page.blocks import PageSection, ReportTable, table
from train.page.comparison import RunComparison
from train.page.formatting import count, percent, spread, with_intervals
from train.page.results import Results
from train.page.summary import RunSummary

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
    rows = [
        (
            row.name,
            spread(row.msr_white),
            percent(_accuracy_on(row, ~results.white)) if rest else "",
            with_intervals(row.difference_white),
        )
        for row in comparison.summaries
    ]
    head = (
        "run",
        f"accuracy on white, % (n = {count(white)})",
        f"accuracy elsewhere, % (n = {count(rest)})",
        "difference to flat on white, points [95\u00a0% intervals]",
    )
    caption = (
        "White backgrounds are simple compositions, which the Uppsala report found easier. "
        "Intervals: above over test images, below over seeds."
    )
    return table(head, rows, caption=caption)


def _accuracy_on(row: RunSummary, chosen: Bool[np.ndarray, " image"]) -> float:
    """The accuracy on the chosen images, mean over seeds."""
    return float(np.mean([each.correct[chosen].mean() for each in row.predictions.values()]))
