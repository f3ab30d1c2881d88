"""Draws reliability diagrams: accuracy against confidence in 15 bins, a panel for each run."""

import math
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from train.evaluation.calibration import ReliabilityBins, reliability
from train.page.figures import INKS, SMALLEST_LETTERS, STYLE, Drawing, figure, render, shown
from train.page.results import ComparedRun

_COLUMNS = 3
_BINS = 15


def draw(runs: Sequence[ComparedRun], *, name: str) -> Drawing:
    """
    Draws the test images of all seeds of each run, in bins by the probability of their prediction.

    A point on the diagonal is calibrated; below it the run is overconfident. Bars at the foot show
    the share of images in each bin.
    """
    binned = {run.name: _bins(run) for run in runs}
    columns = min(_COLUMNS, len(binned))
    lines = math.ceil(len(binned) / columns)
    drawn = figure(2.5 * columns + 0.4, 2.5 * lines + 0.3)
    with mpl.rc_context(STYLE):
        panels = drawn.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
        for axes, (run, bins) in zip(panels, binned.items(), strict=False):
            _panel(axes, run, bins)
        for axes in panels[len(binned) :]:
            axes.set_visible(False)
    return Drawing(
        name=name,
        description="Accuracy against confidence in 15 bins, for flat and the leading hierarchies.",
        svg=render(drawn, name=name),
        columns=("run", "bin", "images", "confidence", "accuracy"),
        rows=[
            (run, index + 1, int(images), float(confidence), float(accuracy))
            for run, bins in binned.items()
            for index, (images, confidence, accuracy) in enumerate(
                zip(bins.images, bins.confidence, bins.accuracy, strict=True)
            )
            if images
        ],
    )


def _bins(run: ComparedRun) -> ReliabilityBins:
    trained = list(run.seeds.values())
    confidences = np.concatenate([each.probabilities.max(axis=1) for each in trained])
    return reliability(confidences, np.concatenate([each.correct for each in trained]), bins=_BINS)


def _panel(axes: Axes, run: str, bins: ReliabilityBins) -> None:
    middles = (np.arange(_BINS) + 0.5) / _BINS
    share = bins.images / bins.images.sum()
    axes.bar(middles, share, width=1 / _BINS, color=INKS["grid"])
    axes.plot([0, 1], [0, 1], color=INKS["muted"], linewidth=0.9, linestyle=(0, (3, 2)))
    filled = bins.images > 0
    axes.plot(
        bins.confidence[filled], bins.accuracy[filled], "o-", color=INKS["blue"], markersize=4
    )
    axes.set_title(shown(run))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("confidence", fontsize=SMALLEST_LETTERS)
    axes.set_ylabel("accuracy; share of images", fontsize=SMALLEST_LETTERS)
    axes.label_outer()
    axes.tick_params(labelsize=SMALLEST_LETTERS)
