"""
`python docs/draw_curves.py`: draws the curves that benchmarks/results/ holds, for experiments.md.

hdcnn.svg: success against the operations that beta executes, and against the factor of compression.
merged.svg: success against alpha for each merge point, and how categories and labels agree (figures
1, 3 and 4 of Dutt and others).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from train.page.figures import INKS, STYLE, figure, render

DOCS = Path(__file__).resolve().parent
RESULTS = DOCS.parent / "benchmarks" / "results"
SETS = {
    "methods": "demo",
    "illustrations": "illustrations",
    "cifar100_small": "CIFAR-100",
}
COLOURS = ("blue", "orange", "green", "purple", "ink")
MERGES = ("merged_apart", "merged_0", "merged_1", "merged", "merged_3")


def found(benchmark: str) -> dict[str, dict[str, Any]]:
    """The details of a benchmark's committed results, by the preset's name."""
    paths = {name: RESULTS / f"{benchmark}-{name}.json" for name in SETS}
    return {
        name: json.loads(path.read_text(encoding="utf-8"))["details"]
        for name, path in paths.items()
        if path.exists()
    }


def averaged(curves: Sequence[Sequence[dict[str, Any]]], *keys: str) -> list[tuple[float, ...]]:
    """The mean over seeds of some columns, row by row."""
    return [
        tuple(mean(row[key] for row in rows) for key in keys) for rows in zip(*curves, strict=True)
    ]


def draw_beta(axes: Axes) -> None:
    """Points lost against the share of the fine operations that is executed; a mark for each beta."""
    for (name, details), colour in zip(found("conditional").items(), COLOURS, strict=False):
        curves = [seed["curve"] for seed in details["seeds"]]
        rows = averaged(curves, "share", "accuracy")
        whole = rows[-1][1]
        axes.plot(
            [100 * share for share, _ in rows],
            [100 * (accuracy - whole) for _, accuracy in rows],
            color=INKS[colour],
            marker="o",
            markersize=3,
            label=SETS[name],
        )
        for row, (share, accuracy) in zip(curves[0], rows, strict=True):
            if row["beta"] in (0.1, 1.0, 6.0):
                axes.annotate(
                    f"{row['beta']:g}",
                    (100 * share, 100 * (accuracy - whole)),
                    fontsize=7,
                    xytext=(3, -9),
                    textcoords="offset points",
                    color=INKS[colour],
                )
    axes.axhline(-0.5, color=INKS["muted"], linewidth=0.8, linestyle=":")
    axes.axvline(40, color=INKS["muted"], linewidth=0.8, linestyle=":")
    axes.set(
        title="Conditional execution (numbers: beta)",
        xlabel="% of the fine components' operations",
        ylabel="points against all components",
        xlim=(0, 103),
    )
    axes.grid(visible=True)
    axes.legend(frameon=False, fontsize=8)


def draw_compression(axes: Axes) -> None:
    """Points lost against how many times smaller the fine components are; a mark a codebook."""
    for (name, details), colour in zip(found("compression").items(), COLOURS, strict=False):
        curves = [seed["curve"] for seed in details["seeds"]]
        rows = averaged(curves, "factor", "loss")
        axes.plot(
            [factor for factor, _ in rows],
            [-100 * loss for _, loss in rows],
            color=INKS[colour],
            marker="o",
            markersize=3,
            label=SETS[name],
        )
        for row, (factor, loss) in zip(curves[0], rows, strict=True):
            axes.annotate(
                str(row["codebook"]),
                (factor, -100 * loss),
                fontsize=7,
                xytext=(3, 3),
                textcoords="offset points",
                color=INKS[colour],
            )
    axes.axvline(4, color=INKS["muted"], linewidth=0.8, linestyle=":")
    axes.set(
        title="Compression (numbers: codebook)",
        xlabel="times fewer bytes of the fine components",
        ylabel="points against 32 bits",
    )
    axes.grid(visible=True)


def draw_alpha(axes: Axes, details: dict[str, Any], level: str) -> None:
    """Success of one level on the test images against alpha, a line for each merge point."""
    for run, colour in zip(MERGES, COLOURS, strict=True):
        if run not in details["runs"]:
            continue
        curves = [seed["curves"]["test"] for seed in details["runs"][run].values()]
        lines = [curve[level] for curve in curves]
        axes.plot(
            details["alphas"],
            [100 * mean(values) for values in zip(*lines, strict=True)],
            color=INKS[colour],
            label=run,
        )
    axes.set(xlabel="alpha", xlim=(0, 2))
    axes.grid(visible=True)


def draw_agreement(axes: Axes, details: dict[str, Any], run: str) -> None:
    """P_c beside the sum of its labels' probabilities, for one category's images and others."""
    for name, colour in (("others", "muted"), ("members", "blue")):
        points = details["scatter"][run][name]
        axes.scatter(
            points["P_c"],
            points["Q"],
            s=5,
            linewidths=0,
            alpha=0.6,
            color=INKS[colour],
            label=f"{name} of one category",
        )
    axes.plot([0, 1], [0, 1], color=INKS["muted"], linewidth=0.8)
    axes.set(xlabel="P of the category", ylabel="sum of its labels", xlim=(0, 1), ylim=(0, 1))
    axes.grid(visible=True)


def hdcnn() -> Figure:
    """Both curves of HD-CNN, every data set a line."""
    drawn = figure(8.4, 3.4)
    beta, compression = drawn.subplots(1, 2)
    draw_beta(beta)
    draw_compression(compression)
    return drawn


def merged() -> Figure:
    """A row for each data set: labels, categories, and their agreement in two networks and one."""
    sets = found("adaptation")
    drawn = figure(11.2, 2.9 * len(sets))
    for (name, details), row in zip(
        sets.items(), drawn.subplots(len(sets), 4, squeeze=False), strict=True
    ):
        for axes, level, told in zip(
            row, ("fine", "coarse"), ("labels", "categories"), strict=False
        ):
            draw_alpha(axes, details, level)
            axes.set(title=f"{SETS[name]}: {told}", ylabel="success %")
        row[0].legend(frameon=False, fontsize=7)
        for axes, run in zip(row[2:], ("merged_apart", "merged"), strict=True):
            if run in details["scatter"]:
                draw_agreement(axes, details, run)
                axes.set_title(f"{SETS[name]}: {run}")
            else:
                axes.set_axis_off()
    return drawn


def main() -> None:
    """Draws what there are results for."""
    for name, benchmark, draw in (
        ("hdcnn", "conditional", hdcnn),
        ("merged", "adaptation", merged),
    ):
        if found(benchmark):
            with mpl.rc_context({**STYLE, "figure.facecolor": INKS["panel"]}):
                drawn = draw()
                drawn.set_facecolor(INKS["panel"])
            path = DOCS / f"{name}.svg"
            path.write_text(render(drawn, name=name) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
