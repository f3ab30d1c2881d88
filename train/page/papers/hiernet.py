"""HierNet's tables (Tempfli and Sándor), and our runs below them."""

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
    """Returns the paper's rows of our networks, or its smallest, above the runs `ours`."""
    networks = {(backbone(row), _act(row)) for row in ours}
    theirs = [row for row in published.HIERNET if (row.backbone, row.act) in networks]
    theirs = theirs or [published.HIERNET[0]]
    flat = comparison.flat.msr.mean
    rows: list[tuple[str, ...]] = [
        (
            f"published, n = {row.n}",
            _named(row.backbone, row.act),
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
                _named(backbone(row), _act(row)),
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
        caption="Accuracy in the HierNet paper's tables (1: ReLU, 2: ELU): its rows with our "
        "backbone and activation, or else its smallest. Ours stand below, means over seeds; differences are to the flat network of "
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


def _act(row: RunSummary) -> str:
    return str(row.run.first.model.params.get("backbone", {}).get("act", "relu"))


def _named(name: str, act: str) -> str:
    return name if act == "relu" else f"{name}, {act}"
