"""Accuracy on parts of the test images: flat, and what each leading run changes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from train.page.blocks import PageSection, ReportTable, table
from train.page.comparison import RunComparison
from train.page.formatting import between, count, percent, points
from train.page.slices import ImageSlice
from train.page.summary import changes, paired_difference


@dataclass(frozen=True, slots=True)
class SlicesContent:
    """What `templates/slices.html` shows; None where no slice is large enough."""

    accuracy: ReportTable | None


def section(comparison: RunComparison, parts: Sequence[ImageSlice]) -> PageSection:
    """Returns the accuracy of the flat run on each slice, and the difference of each leading run."""
    rows = [_row(comparison, each) for each in parts]
    head = (
        "test images",
        "slice",
        "images",
        "flat, %",
        *(f"{row.name} − flat, points [95\u00a0%]" for row in comparison.leading),
    )
    caption = (
        "Accuracy on parts of the test images, means over seeds. Intervals are of the paired "
        "bootstrap over the images of the slice. They are not corrected for the number of slices: "
        "use them to look for reasons, not to draw conclusions."
    )
    accuracy = table(head, rows, caption=caption, words=(0, 1)) if rows else None
    return PageSection("slices", "Parts of the test images", SlicesContent(accuracy))


def _row(comparison: RunComparison, part: ImageSlice) -> tuple[str, ...]:
    flat = comparison.flat.predictions
    accuracy = np.mean([each.correct[part.mask].mean() for each in flat.values()])
    cells = []
    for row in comparison.leading:
        change = changes(row.predictions, flat)
        difference = paired_difference(
            {seed: values[part.mask] for seed, values in change.items()},
            resamples=comparison.resamples,
            seed=comparison.seed,
        )
        cells.append(f"{points(difference.mean)} [{between(difference.over_images)}]")
    return (part.kind, part.name, count(part.mask.sum()), percent(float(accuracy)), *cells)
