"""
The figures of experiments.md, drawn from the committed results in experiments/ and benchmarks/results/.

ladder.svg: accuracy against training operations, of flat networks and of every hierarchy.
regime.svg: points by which `recover` is ahead of each control, by epochs and by width.
hdcnn.svg: accuracy against the operations that beta executes, and against the factor of compression.
merged.svg: accuracy against alpha for each merge point, and how categories and labels agree (as in
figures 1, 3 and 4 of Dutt, Pellerin and Quénot, CBMI 2017).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from generators import records, regime
from generators.experiments import measured
from generators.text import ROOT
from train.page.figures import INKS, STYLE, figure, render

COLOURS = ("blue", "orange", "green", "purple", "ink")
MARKERS = dict(zip(records.METHODS, "o^sDv", strict=True))
NEAR = 1.15
"""Budgets whose operations differ by a smaller factor count as equal: the first preset has more seeds."""
MERGES = ("merged_apart", "merged_0", "merged_1", "merged", "merged_3")


def averaged(curves: Sequence[Sequence[dict[str, Any]]], *keys: str) -> list[tuple[float, ...]]:
    """Returns the mean over seeds of some columns, row by row."""
    return [
        tuple(mean(row[key] for row in rows) for key in keys) for rows in zip(*curves, strict=True)
    ]


def draw_beta(axes: Axes) -> None:
    """Draws points lost against the share of fine operations executed; a mark for each beta."""
    for (name, details), colour in zip(measured("conditional").items(), COLOURS, strict=False):
        curves = [seed["curve"] for seed in details["seeds"]]
        rows = averaged(curves, "share", "accuracy")
        whole = rows[-1][1]
        axes.plot(
            [100 * share for share, _ in rows],
            [100 * (accuracy - whole) for _, accuracy in rows],
            color=INKS[colour],
            marker="o",
            markersize=3,
            label=name,
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
    """Draws points lost against the factor of compression; a mark for each codebook."""
    for (name, details), colour in zip(measured("compression").items(), COLOURS, strict=False):
        curves = [seed["curve"] for seed in details["seeds"]]
        rows = averaged(curves, "factor", "loss")
        axes.plot(
            [factor for factor, _ in rows],
            [-100 * loss for _, loss in rows],
            color=INKS[colour],
            marker="o",
            markersize=3,
            label=name,
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
    """Draws the accuracy of one level on the test images against alpha, a line per merge point."""
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
    """Draws P_c against the sum of its labels' probabilities, for images of one category and others."""
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
    """Returns both curves of HD-CNN, a line per data set."""
    drawn = figure(8.4, 3.4)
    beta, compression = drawn.subplots(1, 2)
    draw_beta(beta)
    draw_compression(compression)
    return drawn


def merged() -> Figure:
    """Returns a row per data set: labels, categories, and their agreement in two networks and one."""
    sets = measured("adaptation")
    drawn = figure(11.2, 2.9 * len(sets))
    for (name, details), row in zip(
        sets.items(), drawn.subplots(len(sets), 4, squeeze=False), strict=True
    ):
        for axes, level, title in zip(
            row, ("fine", "coarse"), ("labels", "categories"), strict=False
        ):
            draw_alpha(axes, details, level)
            axes.set(title=f"{name}: {title}", ylabel="accuracy, %")
        row[0].legend(frameon=False, fontsize=7)
        for axes, run in zip(row[2:], ("merged_apart", "merged"), strict=True):
            if run in details["scatter"]:
                draw_agreement(axes, details, run)
                axes.set_title(f"{name}: {run}")
                axes.legend(frameon=False, fontsize=7, loc="lower right", markerscale=2)
            else:
                axes.set_axis_off()
    return drawn


@dataclass(frozen=True)
class Panel:
    """A data set of the ladder: presets whose flat networks are its line, and presets of marks."""

    flat: tuple[str, ...]
    marks: Mapping[str, str]
    """For each preset of hierarchies, how long its flat network trains."""


PANELS = {
    "demo": Panel(("ladder",), {"methods": "16 epochs", "converged": "128 epochs"}),
    "illustrations": Panel(
        ("illustrations_ladder", "illustrations_systems"), {"illustrations_systems": "128 epochs"}
    ),
    "CIFAR-100": Panel(
        ("cifar100_small", "cifar100_systems"),
        {"cifar100_small": "6 epochs", "cifar100_systems": "22 epochs"},
    ),
}


def rungs(preset: str) -> list[tuple[float, list[float]]]:
    """Returns operations, and the accuracies of all seeds in %, of each budget of a flat network."""
    runs = records.recorded(preset)
    return [
        (mean(map(records.training_operations, seeds.values())), records.accuracies(runs, name))
        for name, seeds in runs.items()
        if name == "flat"
        or name.removeprefix("flat_").isdigit()  # by epochs: other widths are other networks
        or name.endswith("_train_flops")
    ]


def draw_ladder(axes: Axes, panel: Panel) -> None:
    """Draws the flat networks of all budgets as a line, and each hierarchy as a mark at its cost."""
    steps = rungs(panel.flat[0])
    for preset in panel.flat[1:]:
        steps += [
            (cost, values)
            for cost, values in rungs(preset)
            if all(max(cost, other) / min(cost, other) >= NEAR for other, _ in steps)
        ]
    steps.sort()
    costs, accuracies = [cost for cost, _ in steps], [values for _, values in steps]
    axes.plot(costs, [mean(values) for values in accuracies], color=INKS["blue"], label="flat")
    axes.fill_between(
        costs,
        [min(values) for values in accuracies],
        [max(values) for values in accuracies],
        color=INKS["blue"],
        alpha=0.15,
        linewidth=0,
    )
    for preset in panel.marks:
        runs = records.recorded(preset)
        colour = _colour(preset)
        for method, marker in MARKERS.items():
            control = runs.get(f"{method}_train_flops")
            if method in runs and control:
                cost = mean(map(records.training_operations, control.values()))
                values = records.accuracies(runs, method, measure=records.MEASURES[method])
                ends = [[mean(values) - min(values)], [max(values) - mean(values)]]
                axes.errorbar(cost, mean(values), ends, fmt=marker, color=INKS[colour], capsize=2)
    axes.set(xscale="log", xlabel="training operations, 10¹²", ylabel="accuracy, %")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(visible=True)


def draw_key(axes: Axes) -> None:
    """Draws what the line, the shapes and the colours of all panels mean, in a panel of its own."""
    line = Line2D([], [], color=INKS["blue"], label="flat network")
    shapes = [
        Line2D([], [], linestyle="", marker=marker, color=INKS["muted"], label=method)
        for method, marker in MARKERS.items()
    ]
    trainings = [
        Patch(
            color=INKS[colour],
            label=f"{length} training\n"
            + "\n".join(
                f"  {data}, {training}"
                for data, panel in PANELS.items()
                for preset, training in panel.marks.items()
                if _colour(preset) == colour
            ),
        )
        for length, colour in (("short", "orange"), ("long", "ink"))
    ]
    axes.legend(
        handles=[line, *shapes, *trainings], frameon=False, loc="center", fontsize=10, ncols=2
    )
    axes.set_axis_off()


def _colour(preset: str) -> str:
    return "ink" if preset in records.LONG else "orange"


def ladder() -> Figure:
    """Returns a panel for each data set, and one with their key."""
    drawn = figure(10.4, 7.4)
    cells = iter(drawn.subplots(2, 2).flat)
    for (data, panel), axes in zip(PANELS.items(), cells, strict=False):
        draw_ladder(axes, panel)
        axes.set_title(data)
    draw_key(next(cells))
    return drawn


def draw_gains(axes: Axes, cells: Mapping[float, regime.Cell]) -> None:
    """Draws the gain of `recover` over each control, with its range over seeds, at each place."""
    for control, colour, marker, aside in zip(
        regime.CONTROLS, ("blue", "green", "orange"), "os^", (0.96, 1, 1.04), strict=True
    ):
        # Side by side: bars at one place would hide each other.
        gains = {place * aside: regime.gains(cell, control) for place, cell in cells.items()}
        places = [place for place, values in gains.items() if values]
        means = [mean(gains[place]) for place in places]
        axes.errorbar(
            places,
            means,
            yerr=[
                [low - min(gains[place]) for place, low in zip(places, means, strict=True)],
                [max(gains[place]) - high for place, high in zip(places, means, strict=True)],
            ],
            color=INKS[colour],
            marker=marker,
            markersize=4,
            capsize=2,
            label=f"to {control}",
        )
    axes.axhline(0, color=INKS["muted"], linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(visible=True)


def gains_by_regime() -> Figure:
    """Returns a panel by training budget and one by width."""
    drawn = figure(8.4, 3.6)
    budget, width = drawn.subplots(1, 2, sharey=True)
    draw_gains(budget, {cell.epochs: cell for cell in regime.BUDGETS})
    draw_gains(width, {float(cell.width): cell for cell in regime.WIDTHS})
    budget.set(title="half width", xlabel="epochs", ylabel="recover ahead by, points")
    budget.set_xticks([cell.epochs for cell in regime.BUDGETS])
    budget.xaxis.set_major_formatter("{x:g}")
    width.set(title="32 epochs", xlabel="width of the network")
    widths = [cell.width for cell in regime.WIDTHS]
    width.set_xticks([float(each) for each in widths], labels=[str(each) for each in widths])
    budget.legend(frameon=False, fontsize=7)
    return drawn


def draw() -> None:
    """Writes the figures for which there are results into docs/."""
    for name, is_there, drawing in (
        ("hdcnn", measured("conditional"), hdcnn),
        ("merged", measured("adaptation"), merged),
        ("ladder", records.recorded("ladder"), ladder),
        ("regime", records.recorded("regime"), gains_by_regime),
    ):
        if is_there:
            with mpl.rc_context({**STYLE, "figure.facecolor": INKS["panel"]}):
                drawn = drawing()
                drawn.set_facecolor(INKS["panel"])
            path = ROOT / "docs" / f"{name}.svg"
            path.write_text(render(drawn, name=name) + "\n", encoding="utf-8")
