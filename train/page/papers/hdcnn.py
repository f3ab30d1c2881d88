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
    flat_ten = _ten_views(comparison.flat)
    rows.append(_row("here, flat", flat_ten, flat, (_less(flat_ten, flat_ten), _less(flat, flat))))
    for row in ours:
        for summary in (row, comparison.full(row)):
            if summary is not None:
                error = 100 * (1 - summary.msr.mean)
                ten = _ten_views(summary)
                less = (_less(flat_ten, ten), gain(summary))
                rows.append(_row(f"here ({summary.name})", ten, error, less))
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


def _row(name: str, ten: float | None, error: float, less: tuple[str, str]) -> tuple[str, ...]:
    return (name, fixed(ten, digits=2), fixed(error, digits=2), *less, "", "")


def _ten_views(row: RunSummary) -> float | None:
    """Returns the error over ten views in percent, mean over seeds; None where not measured."""
    values = row.run.figure("msr_ten_views") if row.mode == "default" else None
    return None if values is None else 100 * (1 - sum(values) / len(values))


def _less(block: float | None, error: float | None) -> str:
    return "" if block is None or error is None else f"{block - error:+.2f}"
