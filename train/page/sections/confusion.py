"""What the networks confuse: the flat confusion, its worst pairs, and what each hierarchy changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from train.page.blocks import (
    CellLink,
    FigureGroup,
    PageSection,
    ReportFigure,
    ReportTable,
    browse_address,
    group,
    table,
)
from train.page.comparison import RunComparison
from train.page.figures import ANNOTATED_LABELS, Drawing
from train.page.formatting import count, percent, points
from train.page.results import FLAT, Results
from train.page.summary import per_label, shares

_LONG = 30  # labels; a longer table is folded


@dataclass(frozen=True, slots=True)
class ConfusionContent:
    """What `templates/confusion.html` shows; `layout` is a class of the style sheet."""

    figures: tuple[ReportFigure, ...]
    layout: str


@dataclass(frozen=True, slots=True)
class DifferenceContent:
    """What `templates/difference.html` shows."""

    figures: FigureGroup
    labels: ReportTable
    are_labels_folded: bool
    layout: str


@dataclass(frozen=True, slots=True)
class WorstContent:
    """What `templates/worst.html` shows."""

    confusions: ReportTable


def confusion(plain: Drawing, ordered: Drawing, results: Results) -> PageSection:
    """
    Returns the flat confusion in the order of the labels and in that of the clusters.

    Each cell with images links to them on the browse page.
    """
    hint = "A cell leads to its images while python -m curation browse runs."
    figures = (
        ReportFigure(plain, f"Labels in the order of the data set. {hint}", _cells(plain)),
        ReportFigure(
            ordered,
            f"Labels in the order of the clusters, which are outlined. {hint}",
            _cells(ordered),
        ),
    )
    content = ConfusionContent(figures, _layout(len(results.labels)))
    return PageSection("confusion", "What the flat network confuses", content)


def difference(
    drawings: Mapping[str, Drawing],
    leading: Sequence[str],
    results: Results,
    comparison: RunComparison,
) -> PageSection:
    """Returns what each hierarchy changes in the confusion, and the accuracy of every label."""
    labels = len(results.labels)
    content = DifferenceContent(
        figures=group(drawings, {name: f"{name} minus flat." for name in drawings}, leading),
        labels=_every_label(results, comparison),
        are_labels_folded=labels > _LONG,
        layout=_layout(labels),
    )
    return PageSection("difference", "What the hierarchy changes", content)


def worst(results: Results, comparison: RunComparison, *, limit: int) -> PageSection:
    """
    Returns the `limit` most frequent confusions of the flat network; most images first.

    Each share links to its images on the browse page.
    """
    leaves, main = len(results.labels), comparison.main
    flat = shares(comparison.flat.predictions, leaves)
    other = shares(main.predictions, leaves) if main else None
    tested = np.bincount(results.test_labels, minlength=leaves)
    pairs = flat * tested[:, None]
    np.fill_diagonal(pairs, 0)
    rows: list[tuple[str, ...]] = []
    links = {}
    for index in np.argsort(-pairs, axis=None, kind="stable")[:limit]:
        i, j = divmod(int(index), leaves)
        if pairs[i, j] > 0:
            for column, run in enumerate((comparison.flat.name, main.name if main else None), 2):
                if run is not None:
                    links[len(rows), column] = _images(run, results.labels[i], results.labels[j])
            rows.append(
                (
                    results.labels[i],
                    results.labels[j],
                    percent(float(flat[i, j])),
                    "" if other is None else percent(float(other[i, j])),
                    count(int(tested[i])),
                    _relation(results, i, j),
                )
            )
    name = main.name if main else "hierarchy"
    confusions = table(
        (
            "true label",
            "predicted label",
            "flat, %",
            f"{name}, %",
            "n of the true label",
            "the two are",
        ),
        rows,
        caption="Shares of the true label's test images, mean over seeds; most images first. A share "
        "leads to its images while python -m curation browse runs.",
        words=(0, 1, 5),
        links=links,
    )
    return PageSection("worst", "Worst confusions", WorstContent(confusions))


def _images(run: str, true: str, predicted: str) -> str:
    """Returns the address of the test images that a run confuses in one way."""
    return browse_address(run=run, split="test", true=true, predicted=predicted)


def _cells(drawing: Drawing) -> tuple[CellLink, ...]:
    """Returns a link for each cell of the flat confusion that has images."""
    box = drawing.matrix
    if box is None:
        return ()
    labels = len(box.order)
    place = {leaf: index for index, leaf in enumerate(box.order)}
    width, height = 100 * box.width / labels, 100 * box.height / labels
    links = []
    for number, (true, predicted, share) in enumerate(drawing.rows):
        if isinstance(share, float) and share > 0:
            row, column = (place[leaf] for leaf in divmod(number, labels))
            links.append(
                CellLink(
                    address=_images(FLAT, str(true), str(predicted)),
                    title=f"{true} predicted as {predicted}: {percent(share)} %",
                    left=f"{100 * box.left + column * width:.3f}",
                    top=f"{100 * box.top + row * height:.3f}",
                    width=f"{width:.3f}",
                    height=f"{height:.3f}",
                )
            )
    return tuple(links)


def _layout(labels: int) -> str:
    """Confusions of many labels need the whole width."""
    return "pair" if labels <= ANNOTATED_LABELS else "stack"


def _every_label(results: Results, comparison: RunComparison) -> ReportTable:
    leaves, main = len(results.labels), comparison.main
    tested = np.bincount(results.test_labels, minlength=leaves)
    flat = per_label(comparison.flat.predictions, leaves)
    other = flat if main is None else per_label(main.predictions, leaves)
    rows = [
        (
            label,
            count(int(tested[leaf])),
            percent(float(flat[leaf])),
            percent(float(other[leaf])),
            points(float(other[leaf] - flat[leaf])),
        )
        for leaf, label in enumerate(results.labels)
    ]
    name = main.name if main else "hierarchy"
    seeds = len(comparison.flat.predictions)
    caption = (
        f"Accuracy of each label, mean over {seeds} seed{'s' if seeds > 1 else ''}; n test images. "
        "The changes of single labels are descriptive: no interval was computed for them."
    )
    return table(("label", "n", "flat, %", f"{name}, %", "change, points"), rows, caption=caption)


def _relation(results: Results, i: int, j: int) -> str:
    """How the data relates two confused labels: a form and its base, or by cluster."""
    base = results.bases
    first, second = results.labels[i], results.labels[j]
    if base.get(first, first) == base.get(second, second):
        return "a form and its base"
    clusters = results.reference(results.seeds[0]).clusters
    same = any({i, j} <= set(cluster) for cluster in clusters)
    return "same cluster" if same else "across clusters"
