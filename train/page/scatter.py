"""Success against operations: every run a point, so that what costs more stands further right."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from train.page.comparison import RunComparison
from train.page.figures import INKS, STYLE, Drawing, figure, render, shown
from train.page.summary import RunSummary

_LOG_BEYOND = 4  # a wider range of costs would press the small ones together
_ROOM = 0.19  # inches from a name to the next
_LEFT, _WIDTH, _NAMES, _BELOW, _ABOVE = 0.62, 3.7, 1.7, 0.55, 0.5  # inches
_LOOKS = {  # colour, marker, filled
    "flat": ("ink", "s", True),
    "hierarchy": ("blue", "o", True),
    "hierarchy, in full": ("blue", "o", False),
    "random groups": ("muted", "^", True),
    "equal cost": ("orange", "D", True),
    "other": ("purple", "P", True),
}


@dataclass(frozen=True, slots=True)
class CostPoint:
    """A run: expected MACs of a prediction, and its success over seeds, as a share."""

    name: str
    kind: str
    macs: float
    success: float
    deviation: float | None
    seeds: int


def points(comparison: RunComparison) -> list[CostPoint]:
    """Returns a point for each run as it predicts, and one for each hierarchy in full."""
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


def draw(found: Sequence[CostPoint], *, name: str) -> Drawing:
    """Draws success over operations; the axis is logarithmic where they differ more than 4 times."""
    high = max(2.6, _ROOM * len(found) + 0.2)
    whole = (_LEFT + _WIDTH + _NAMES, _BELOW + high + _ABOVE)
    drawn = figure(*whole, layout=None)
    with mpl.rc_context(STYLE):
        axes = drawn.add_axes(
            (_LEFT / whole[0], _BELOW / whole[1], _WIDTH / whole[0], high / whole[1])
        )
        for kind in _LOOKS:
            _mark(axes, [one for one in found if one.kind == kind], kind)
        _scale(axes, found)
        _name(axes, found, spacing=_ROOM / high)
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(-0.02, 1.0),
            ncols=3,
            frameon=False,
            fontsize=8,
            handletextpad=0.1,
            columnspacing=1.0,
        )
    return Drawing(
        name=name,
        description="Success on the test images against expected operations of a prediction.",
        svg=render(drawn, name=name),
        columns=("run", "kind", "macs", "msr", "deviation", "seeds"),
        rows=[
            (one.name, one.kind, one.macs, one.success, one.deviation, one.seeds) for one in found
        ],
    )


def _kind(row: RunSummary) -> str:
    if row.run.name == "flat":
        return "flat"
    if row.run.is_random:
        return "random groups"
    if row.run.is_control:
        return "equal cost" if row.run.like else "other"
    return "hierarchy" if row.mode == "default" else "hierarchy, in full"


def _mark(axes: Axes, found: Sequence[CostPoint], kind: str) -> None:
    if not found:
        return
    ink, marker, filled = _LOOKS[kind]
    axes.errorbar(
        [one.macs / 1e6 for one in found],
        [100 * one.success for one in found],
        yerr=[100 * (one.deviation or 0) for one in found],
        fmt=marker,
        color=INKS[ink],
        markerfacecolor=INKS[ink] if filled else INKS["panel"],
        markersize=6,
        elinewidth=0.9,
        label=kind,
        zorder=3,
    )


def _scale(axes: Axes, found: Sequence[CostPoint]) -> None:
    costs = [one.macs / 1e6 for one in found if one.macs > 0]
    axes.set_xlabel("expected MACs of a prediction, M")
    axes.set_ylabel("MSR, %")
    axes.grid()
    if costs and max(costs) > _LOG_BEYOND * min(costs):
        axes.set_xscale("log")
        ticks = [base * 10**power for power in range(-3, 6) for base in (1, 2, 5)]
        ticks = [tick for tick in ticks if 0.8 * min(costs) <= tick <= 1.25 * max(costs)]
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(ticks, [f"{tick:,g}" for tick in ticks])
        axes.set_xlabel("expected MACs of a prediction, M (logarithmic)")


def _name(axes: Axes, found: Sequence[CostPoint], *, spacing: float) -> None:
    """Puts the names in a column at the right, in the order of success, each with a line."""
    low, high = axes.get_ylim()
    order = sorted(found, key=lambda one: one.success)
    heights = spaced([(100 * one.success - low) / (high - low) for one in order], spacing)
    for one, height in zip(order, heights, strict=True):
        axes.annotate(
            shown(one.name),
            xy=(one.macs / 1e6, 100 * one.success),
            xytext=(1.03, height),
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            color=INKS[_LOOKS[one.kind][0]],
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": INKS["grid"], "linewidth": 0.7, "shrinkB": 4},
        )


def spaced(wanted: Sequence[float], spacing: float) -> list[float]:
    """
    Returns rising heights at least `spacing` apart, near those wanted, which rise; none above 1.

    Example:
        0.5, 0.5 and 0.9 with 0.2 between them give 0.5, 0.7 and 0.9.
    """
    found: list[float] = []
    for height in wanted:
        found.append(max(height, found[-1] + spacing) if found else height)
    ceiling = 1.0
    for place in reversed(range(len(found))):
        found[place] = min(found[place], ceiling)
        ceiling = found[place] - spacing
    return found
