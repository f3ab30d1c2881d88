"""HierNet's table (Tempfli and Sándor), and our runs below it."""

from collections.abc import Sequence

from train.page import published
from train.page.blocks import table
from train.page.comparison import RunComparison
from train.page.formatting import percent
from train.page.papers.part import PaperPart, backbone, epochs, gain
from train.page.results import Results
from train.page.summary import RunSummary

_HEAD = (
    "HierNet",
    "backbone",
    "flat, %",
    "full, %",
    "route, %",
    "full minus flat, points",
    "route minus flat, points",
)


def part(results: Results, comparison: RunComparison, ours: Sequence[RunSummary]) -> PaperPart:
    """Returns the paper's row of our depth, or its smallest, above the runs `ours`."""
    name = backbone(ours[0])
    theirs = [row for row in published.HIERNET if row.backbone == name] or [published.HIERNET[0]]
    flat = comparison.flat.msr.mean
    rows: list[tuple[str, ...]] = [
        (
            f"published, n = {row.n}",
            row.backbone,
            f"{row.flat:.2f}",
            f"{row.full:.2f}",
            f"{row.route:.2f}",
            f"{row.full - row.flat:+.2f}",
            f"{row.route - row.flat:+.2f}",
        )
        for row in theirs
    ]
    for row in ours:
        full = comparison.full(row)
        rows.append(
            (
                f"here ({row.run.name})",
                backbone(row),
                percent(flat),
                "" if full is None else percent(full.msr.mean),
                percent(row.msr.mean),
                "" if full is None else gain(full),
                gain(row),
            )
        )
    accuracy = table(
        _HEAD,
        rows,
        caption="Accuracy in the HierNet paper's table (ReLU): its row with our backbone, or else "
        "its smallest. Ours stand below, means over seeds; differences are to the flat network of "
        "the same seed. Full: the forward pass over all branches. Route: the forward pass over one "
        "route.",
        words=(0, 1),
        marked=range(len(theirs), len(rows)),
    )
    return PaperPart(
        name="HierNet",
        there=published.HIERNET_DATA,
        here=f"Flat: {epochs(results.flat)}. HierNet: {epochs(ours[0].run)}.",
        tables=(accuracy,),
    )
