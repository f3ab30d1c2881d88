"""HD-CNN's table of errors on CIFAR-100 (Yan and others 2015), and our runs below it."""

from collections.abc import Sequence

from train.page import published
from train.page.blocks import table
from train.page.comparison import RunComparison
from train.page.formatting import count, fixed
from train.page.papers.part import PaperPart, epochs, gain
from train.page.results import Results
from train.page.summary import RunSummary

_HEAD = (
    "HD-CNN",
    "error, ten views, %",
    "error, one view, %",
    "flat minus error, ten views, points",
    "flat minus error, one view, points",
    "memory, MB",
    "time, s",
)


def part(results: Results, comparison: RunComparison, ours: Sequence[RunSummary]) -> PaperPart:
    """Returns the paper's errors above flat and the runs `ours`, each in its default mode and in mode full."""
    block = published.HDCNN[0]
    rows: list[tuple[str, ...]] = [
        (
            row.model,
            fixed(row.ten_views, digits=2),
            fixed(row.one_view, digits=2),
            _less(block.ten_views, row.ten_views),
            _less(block.one_view, row.one_view),
            "" if row.memory is None else count(row.memory),
            fixed(row.seconds, digits=2),
        )
        for row in published.HDCNN
    ]
    theirs = len(rows)
    flat = 100 * (1 - comparison.flat.msr.mean)
    rows.append(("here, flat", "", fixed(flat, digits=2), "", _less(flat, flat), "", ""))
    for row in ours:
        for summary in (row, comparison.full(row)):
            if summary is not None:
                error = fixed(100 * (1 - summary.msr.mean), digits=2)
                rows.append((f"here ({summary.name})", "", error, "", gain(summary), "", ""))
    errors = table(
        _HEAD,
        rows,
        caption="HD-CNN's errors on CIFAR-100, and ours below, means over seeds; differences are to "
        "the flat network of the same seed. The paper's flat network is its building block. Memory "
        "and time are those of a prediction on the paper's machine; ours stand in the table of "
        "costs.",
        words=(0,),
        marked=range(theirs, len(rows)),
    )
    return PaperPart(
        name="HD-CNN",
        there=published.HDCNN_DATA,
        here=f"Flat: {epochs(results.flat)}. HD-CNN: {epochs(ours[0].run)}, all networks together.",
        tables=(errors,),
    )


def _less(block: float | None, error: float | None) -> str:
    return "" if block is None or error is None else f"{block - error:+.2f}"
