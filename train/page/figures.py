"""
Draws the report's figures as SVG, each with the rows from which it was drawn.

matplotlib without pyplot: no window, no state, the same bytes for the same numbers. All colours
are those of `INKS`, which the page replaces by its own (light or dark). Intensity is opacity, so
that a figure is readable on any background.
"""

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from train.page.differences import PairedDifference

# Blue and orange stay apart for every common colour blindness (Okabe and Ito 2008).
INKS = {
    "ink": "#1b2330",
    "muted": "#5c6879",
    "grid": "#d3d9e2",
    "blue": "#0b66ad",
    "orange": "#c9540a",
    "green": "#00856a",
    "purple": "#9a4f96",
    "panel": "#fdfefe",
}
WIDEST_NAME = 24  # characters of a tag that fit beside a figure
ANNOTATED_LABELS = 16  # above it the numbers in the cells would not be readable
SMALLEST_LETTERS = 8.5  # points: 11 pixels on the page
CLIP = 0.3  # as in Figure 10 of the Uppsala report (Colin and Nagarajan 2018)

Rows = Sequence[Sequence[object]]

STYLE: dict[Any, Any] = {  # matplotlib types these keys as literals, one by one
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "sans-serif"],
    "font.size": 9,
    "text.parse_math": False,  # a tag may hold a dollar sign
    "text.color": INKS["ink"],
    "axes.labelcolor": INKS["ink"],
    "axes.edgecolor": INKS["grid"],
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "xtick.color": INKS["muted"],
    "ytick.color": INKS["muted"],
    "xtick.labelcolor": INKS["ink"],
    "ytick.labelcolor": INKS["ink"],
    "grid.color": INKS["grid"],
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
}


@dataclass(frozen=True, slots=True)
class MatrixBox:
    """Where the cells of a matrix lie in its figure: shares of the figure's width and height."""

    left: float
    top: float
    width: float
    height: float
    order: tuple[int, ...]
    """Leaves of the rows from the top, and of the columns from the left."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure: its file name, a description in words, the SVG, and the rows behind it."""

    name: str
    description: str
    svg: str
    columns: tuple[str, ...]
    rows: Rows
    matrix: MatrixBox | None = None
    """The cells, if the figure is a matrix."""


def shown(name: str) -> str:
    """Returns a tag as a figure shows it: no control characters, at most `WIDEST_NAME` long."""
    clean = re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", name)
    return clean if len(clean) <= WIDEST_NAME else clean[: WIDEST_NAME - 1] + "…"


def figure(
    width: float, height: float, *, layout: Literal["constrained"] | None = "constrained"
) -> Figure:
    """Returns an empty figure in the report's style; `width` and `height` are in inches."""
    with mpl.rc_context(STYLE):
        made = Figure(figsize=(width, height), layout=layout)
        FigureCanvasSVG(made)
    return made


def render(drawn: Figure, *, name: str) -> str:
    """Returns the SVG of a figure; every identifier in it begins with `name`."""
    buffer = io.StringIO()
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        # The browser supplies the font: a glyph that is missing here does not matter.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .*missing from font")
        drawn.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    # Inside a page this style would apply to the whole page; the metadata are empty.
    svg = re.sub(r"\s*<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(?<= id=")', f"{name}-", svg)
    return re.sub(r'(?<=url\(#)|(?<=href="#)', f"{name}-", svg)


def confusion(
    shares: Float[np.ndarray, "row column"],
    labels: Sequence[str],
    *,
    name: str,
    clusters: Sequence[Sequence[int]] | None = None,
) -> Drawing:
    """
    Draws a row-normalised confusion; with `clusters`, in the order of the clusters, outlined.

    Opacity is the square root of the share, so that one image in a hundred is still visible.
    """
    opacity = np.sqrt(np.clip(shares, 0, 1))
    colours = _tinted(opacity, INKS["blue"])
    ticks = [0, 0.05, 0.25, 0.5, 1]
    return _matrix(
        shares,
        colours,
        labels,
        name=name,
        clusters=clusters,
        strip=(_tinted(np.sqrt(np.linspace(0, 1, 256))[None], INKS["blue"]), 0, 1, ticks),
        caption="share of the true label's test images, %",
        description=(
            "Confusion of the flat network, rows true labels, columns predicted labels, "
            + ("in the order of the clusters." if clusters else "in the order of the labels.")
        ),
    )


def difference(
    change: Float[np.ndarray, "row column"],
    labels: Sequence[str],
    *,
    name: str,
    clusters: Sequence[Sequence[int]],
) -> Drawing:
    """Draws a run's confusion minus the flat one's, colours clipped at plus and minus 0.3."""

    def tint(values: Float[np.ndarray, "row column"]) -> Float[np.ndarray, "row column 4"]:
        rising = _tinted(np.clip(values / CLIP, 0, 1), INKS["blue"])
        falling = _tinted(np.clip(-values / CLIP, 0, 1), INKS["orange"])
        return np.where((values > 0)[..., None], rising, falling)

    strip = tint(np.linspace(-CLIP, CLIP, 256)[None])
    return _matrix(
        change,
        tint(change),
        labels,
        name=name,
        clusters=clusters,
        strip=(strip, -CLIP, CLIP, [-0.3, -0.15, 0, 0.15, 0.3]),
        caption="hierarchy minus flat, percentage points, colours clipped at ±30",
        description="Confusion of the hierarchy minus that of the flat network, rows true labels.",
    )


def intervals(differences: Mapping[str, PairedDifference], *, name: str, caption: str) -> Drawing:
    """
    Draws differences in points with their 95 % intervals over images, one row each.

    A difference that is not conclusive is grey; above zero it is blue, below zero orange.
    """
    names = list(differences)
    drawn = figure(5.6, 0.75 + 0.36 * len(names))
    with mpl.rc_context(STYLE):
        axes = drawn.add_subplot()
        axes.axvline(0, color=INKS["ink"], linewidth=0.9)
        for row, difference in enumerate(differences.values()):
            side = "blue" if difference.mean > 0 else "orange"
            colour = INKS[side if difference.is_conclusive else "muted"]
            interval = difference.over_images
            axes.plot([100 * interval.low, 100 * interval.high], [row, row], color=colour)
            axes.plot(100 * interval.mean, row, "o", color=colour, markersize=6)
        axes.set_yticks(range(len(names)), [shown(each) for each in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlabel(caption)
        axes.grid(axis="x")
        axes.tick_params(length=0)
        axes.spines["left"].set_visible(False)
    return Drawing(
        name=name,
        description="Differences with their 95 % intervals over test images.",
        svg=render(drawn, name=name),
        columns=("comparison", "difference", "low", "high", "seeds", "seeds_low", "seeds_high"),
        rows=[_interval_row(each, differences[each]) for each in names],
    )


def _interval_row(name: str, difference: PairedDifference) -> tuple[object, ...]:
    images, seeds = difference.over_images, difference.over_seeds
    ends = (None, None) if seeds is None else (seeds.low, seeds.high)
    return (name, images.mean, images.low, images.high, difference.seeds, *ends)


def funnel(stages: Sequence[tuple[str, int, int]], *, name: str) -> Drawing:
    """Draws how many posts each stage kept and refused; `stages` are (stage, kept, refused)."""
    drawn = figure(7.2, 0.7 + 0.34 * len(stages))
    with mpl.rc_context(STYLE):
        axes = drawn.add_subplot()
        for index, (_, kept, refused) in enumerate(stages):
            axes.barh(index, kept, height=0.66, color=INKS["blue"])
            axes.barh(index, refused, left=kept, height=0.66, color=INKS["orange"], alpha=0.45)
            text = f"{kept:,} kept" + (f", {refused:,} refused" if refused else "")
            axes.annotate(
                text, (kept + refused, index), (5, 0), textcoords="offset points", va="center"
            )
        axes.set_yticks(range(len(stages)), [stage for stage, _, _ in stages])
        axes.set_ylim(len(stages) - 0.5, -0.5)
        axes.set_xlim(0, 1.42 * max((kept + refused for _, kept, refused in stages), default=1))
        axes.set_xticks([])
        axes.tick_params(length=0)
        for side in ("bottom", "left"):
            axes.spines[side].set_visible(False)
    return Drawing(
        name=name,
        description="Posts kept and refused by each stage.",
        svg=render(drawn, name=name),
        columns=("stage", "kept", "refused"),
        rows=stages,
    )


def _tinted(
    opacity: Float[np.ndarray, "row column"], colour: str
) -> Float[np.ndarray, "row column 4"]:
    tinted = np.empty((*opacity.shape, 4))
    tinted[..., :3] = to_rgb(colour)
    tinted[..., 3] = opacity
    return tinted


def _matrix(
    values: Float[np.ndarray, "row column"],
    colours: Float[np.ndarray, "row column 4"],
    labels: Sequence[str],
    *,
    name: str,
    clusters: Sequence[Sequence[int]] | None,
    strip: tuple[Float[np.ndarray, "one step 4"], float, float, Sequence[float]],
    caption: str,
    description: str,
) -> Drawing:
    order = (
        [leaf for cluster in clusters for leaf in cluster] if clusters else [*range(len(labels))]
    )
    side, letters = _size(len(labels))
    drawn = figure(side + 1.9, side + 2.3)
    with mpl.rc_context(STYLE):
        bar, axes = drawn.subplots(2, 1, height_ratios=[0.16, side])
        axes.imshow(colours[np.ix_(order, order)], interpolation="none", aspect="equal")
        names = [shown(labels[leaf]) for leaf in order]
        axes.set_xticks(range(len(order)), names, rotation=90)
        axes.set_yticks(range(len(order)), names)
        axes.tick_params(length=0, labelsize=letters)
        axes.set_xlabel("predicted label")
        axes.set_ylabel("true label")
        axes.spines[["top", "right"]].set_visible(True)
        _outline(axes, clusters or ())
        if len(order) <= ANNOTATED_LABELS:
            _annotate(axes, values[np.ix_(order, order)], colours[np.ix_(order, order)][..., 3])
        _legend(bar, *strip, caption=caption)
    svg = render(drawn, name=name)
    box = axes.get_position()  # known once it is drawn; from the bottom up
    return Drawing(
        name=name,
        description=description,
        svg=svg,
        columns=("true_label", "predicted_label", "value"),
        rows=[
            (labels[i], labels[j], float(values[i, j]))
            for i in range(len(labels))
            for j in range(len(labels))
        ],
        matrix=MatrixBox(box.x0, 1 - box.y1, box.width, box.height, tuple(order)),
    )


def _size(labels: int) -> tuple[float, float]:
    """The side in inches and the letters in points; a row is never lower than its letters."""
    return max(3.2, min(0.36 * labels, 5.8), 0.12 * labels), SMALLEST_LETTERS


def _outline(axes: Axes, clusters: Sequence[Sequence[int]]) -> None:
    start = -0.5
    for cluster in clusters:
        size = len(cluster)
        frame = Rectangle(
            (start, start), size, size, fill=False, edgecolor=INKS["ink"], linewidth=1.4
        )
        axes.add_patch(frame)
        start += size


def _annotate(
    axes: Axes,
    values: Float[np.ndarray, "row column"],
    opacity: Float[np.ndarray, "row column"],
) -> None:
    for (row, column), value in np.ndenumerate(values):
        percent = round(100 * float(value))
        if percent:
            axes.text(
                column,
                row,
                f"{percent}".replace("-", "−"),
                ha="center",
                va="center",
                fontsize=SMALLEST_LETTERS,
                color="#ffffff" if opacity[row, column] > 0.75 else INKS["ink"],
            )


def _legend(
    axes: Axes,
    strip: Float[np.ndarray, "one step 4"],
    low: float,
    high: float,
    ticks: Sequence[float],
    *,
    caption: str,
) -> None:
    axes.imshow(strip, aspect="auto", extent=(low, high, 0, 1), interpolation="none")
    axes.set_yticks([])
    sign = "+" if low < 0 else ""
    names = [f"{100 * tick:{sign if tick else ''}g}".replace("-", "−") for tick in ticks]
    axes.set_xticks(ticks, names)
    axes.tick_params(length=2, labelsize=SMALLEST_LETTERS)
    axes.set_title(caption, fontsize=8.5)
