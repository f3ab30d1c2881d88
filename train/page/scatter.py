"""Draws accuracy against operations: every run is a point, costly runs stand further right."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from train.page.comparison import RunComparison
from train.page.figures import INKS, SMALLEST_LETTERS, STYLE, Drawing, figure, render, shown
from train.page.summary import RunSummary

_LOG_BEYOND = 4  # a wider range of costs would leave the cheap runs on one spot
_ROOM = 0.19  # inches from a name to the next
_LEFT, _WIDTH, _NAMES, _BELOW, _ABOVE = 0.62, 3.7, 1.7, 0.55, 0.5  # inches
_LOOKS = {  # colour, marker, filled
    "flat": ("ink", "s", True),
    "hierarchy": ("blue", "o", True),
    "hierarchy (full)": ("blue", "o", False),
    "random groups": ("muted", "^", True),
    "equal cost": ("orange", "D", True),
    "other": ("purple", "P", True),
}


@dataclass(frozen=True, slots=True)
class CostPoint:
    """A run in one mode: expected MACs of a prediction, and accuracy over seeds as a share."""

    name: str
    kind: str
    macs: float
    accuracy: float
    deviation: float | None
    seeds: int


def points(comparison: RunComparison) -> list[CostPoint]:
    """Returns a point for each run in its default mode, and for each hierarchy in mode full too."""
    return [
        CostPoint(
            row.name,
            _kind(row),
            row.cost.macs,
            row.msr.mean,
            row.msr.deviation,
            len(row.predictions),
        )
        for row in comparison.summaries
        if row.mode == "default" or not row.run.is_control
    ]


def draw(marks: Sequence[CostPoint], *, name: str) -> Drawing:
    """Draws accuracy over MACs; the axis is logarithmic where MACs differ more than 4 times."""
    high = max(2.6, _ROOM * len(marks) + 0.2)
    whole = (_LEFT + _WIDTH + _NAMES, _BELOW + high + _ABOVE)
    drawn = figure(*whole, layout=None)
    with mpl.rc_context(STYLE):
        axes = drawn.add_axes(
            (_LEFT / whole[0], _BELOW / whole[1], _WIDTH / whole[0], high / whole[1])
        )
        for kind in _LOOKS:
            _mark(axes, [each for each in marks if each.kind == kind], kind)
        _scale(axes, marks)
        _name(axes, marks, spacing=_ROOM / high)
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(-0.02, 1.0),
            ncols=3,
            frameon=False,
            fontsize=SMALLEST_LETTERS,
            handletextpad=0.1,
            columnspacing=1.0,
        )
    return Drawing(
        name=name,
        description="Accuracy on the test images against expected MACs of a prediction.",
        svg=render(drawn, name=name),
        columns=("run", "kind", "macs", "msr", "deviation", "seeds"),
        rows=[
            (each.name, each.kind, each.macs, each.accuracy, each.deviation, each.seeds)
            for each in marks
        ],
    )


def _kind(row: RunSummary) -> str:
    if row.run.name == "flat":
        return "flat"
    if row.run.is_random:
        return "random groups"
    if row.run.is_control:
        return "equal cost" if row.run.like else "other"
    return "hierarchy" if row.mode == "default" else "hierarchy (full)"


def _mark(axes: Axes, marks: Sequence[CostPoint], kind: str) -> None:
    if not marks:
        return
    ink, marker, filled = _LOOKS[kind]
    axes.errorbar(
        [each.macs / 1e6 for each in marks],
        [100 * each.accuracy for each in marks],
        yerr=[100 * (each.deviation or 0) for each in marks],
        fmt=marker,
        color=INKS[ink],
        markerfacecolor=INKS[ink] if filled else INKS["panel"],
        markersize=6,
        elinewidth=0.9,
        label=kind,
        zorder=3,
    )


def _scale(axes: Axes, marks: Sequence[CostPoint]) -> None:
    costs = [each.macs / 1e6 for each in marks if each.macs > 0]
    axes.set_xlabel("expected MACs of a prediction, M")
    axes.set_ylabel("accuracy, %")
    axes.grid()
    if costs and max(costs) > _LOG_BEYOND * min(costs):
        axes.set_xscale("log")
        ticks = [base * 10**power for power in range(-3, 6) for base in (1, 2, 5)]
        ticks = [tick for tick in ticks if 0.8 * min(costs) <= tick <= 1.25 * max(costs)]
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(ticks, [f"{tick:,g}" for tick in ticks])
        axes.set_xlabel("expected MACs of a prediction, M (logarithmic)")


def _name(axes: Axes, marks: Sequence[CostPoint], *, spacing: float) -> None:
    """Writes the names in a column at the right, in the order of accuracy, each with a line."""
    low, high = axes.get_ylim()
    order = sorted(marks, key=lambda each: each.accuracy)
    heights = spaced([(100 * each.accuracy - low) / (high - low) for each in order], spacing)
    for each, height in zip(order, heights, strict=True):
        axes.annotate(
            shown(each.name),
            xy=(each.macs / 1e6, 100 * each.accuracy),
            xytext=(1.03, height),
            textcoords="axes fraction",
            va="center",
            fontsize=SMALLEST_LETTERS,
            color=INKS[_LOOKS[each.kind][0]],
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": INKS["grid"], "linewidth": 0.7, "shrinkB": 4},
        )


def spaced(heights: Sequence[float], spacing: float) -> list[float]:
    """
    Returns rising heights at least `spacing` apart and near `heights`, which rise; none above 1.

    Example:
        0.5, 0.5 and 0.9 with 0.2 between them give 0.5, 0.7 and 0.9.
    """
    apart: list[float] = []
    for height in heights:
        apart.append(max(height, apart[-1] + spacing) if apart else height)
    ceiling = 1.0
    for index in reversed(range(len(apart))):
        apart[index] = min(apart[index], ceiling)
        ceiling = apart[index] - spacing
    return apart
