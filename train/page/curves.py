"""Draws loss curves: a panel for each network, with the best epoch and the cuts of the rate."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from train.page.figures import INKS, SMALLEST_LETTERS, STYLE, Drawing, figure, render, shown

_COLUMNS = 3
_CUT = 0.6  # of the rate of the epoch before; a lower rate is a cut and no decay


@dataclass(frozen=True, slots=True)
class Curve:
    """The epochs of one network, in order. `rate` is the learning rate at the epoch's end."""

    network: str
    epoch: tuple[int, ...]
    rate: tuple[float, ...]
    train_loss: tuple[float, ...]
    val_loss: tuple[float, ...]

    @property
    def kept(self) -> int:
        """The epoch with the least validation loss, whose weights are kept."""
        known = [loss if math.isfinite(loss) else math.inf for loss in self.val_loss]
        return self.epoch[known.index(min(known))]

    @property
    def cuts(self) -> tuple[int, ...]:
        """
        The epochs before which the learning rate was cut while it was otherwise constant.

        A schedule that changes the rate at most epochs has no cuts.
        """
        pairs = list(zip(self.rate, self.rate[1:], strict=False))
        changed = [before != after for before, after in pairs]
        if sum(changed) > len(pairs) / 2:
            return ()
        return tuple(
            self.epoch[index + 1]
            for index, (before, after) in enumerate(pairs)
            if after < _CUT * before
        )


def read(rows: Sequence[Mapping[str, str]]) -> list[Curve]:
    """Returns the curve of each network of a curves.csv, in the order of training."""
    networks = dict.fromkeys(row["network"] for row in rows)
    curves = []
    for network in networks:
        own = [row for row in rows if row["network"] == network]
        curves.append(
            Curve(
                network=network,
                epoch=tuple(int(row["epoch"]) for row in own),
                rate=tuple(_number(row["lr"]) for row in own),
                train_loss=tuple(_number(row["train_loss"]) for row in own),
                val_loss=tuple(_number(row["val_loss"]) for row in own),
            )
        )
    return curves


def draw(curves: Sequence[Curve], *, name: str) -> Drawing:
    """Draws training and validation loss of each network; a dot marks the least validation loss."""
    columns = min(_COLUMNS, len(curves))
    lines = math.ceil(len(curves) / columns)
    drawn = figure(max(5.4, 3.1 * columns + 0.3), 2.1 * lines + 0.35)
    with mpl.rc_context(STYLE):
        panels = drawn.subplots(lines, columns, squeeze=False).ravel()
        for axes, curve in zip(panels, curves, strict=False):
            _panel(axes, curve)
        for axes in panels[len(curves) :]:
            axes.set_visible(False)
        handles, names = panels[0].get_legend_handles_labels()
        drawn.legend(
            handles,
            names,
            loc="outside upper left",
            ncols=4,
            frameon=False,
            fontsize=SMALLEST_LETTERS,
        )
    return Drawing(
        name=name,
        description="Training and validation loss per epoch of each network.",
        svg=render(drawn, name=name),
        columns=("network", "epoch", "learning_rate", "train_loss", "val_loss"),
        rows=[
            (curve.network, *row)
            for curve in curves
            for row in zip(curve.epoch, curve.rate, curve.train_loss, curve.val_loss, strict=True)
        ],
    )


def _panel(axes: Axes, curve: Curve) -> None:
    axes.plot(curve.epoch, curve.train_loss, color=INKS["muted"], label="training")
    axes.plot(curve.epoch, curve.val_loss, color=INKS["blue"], label="validation")
    least = curve.val_loss[curve.epoch.index(curve.kept)]
    axes.plot(curve.kept, least, "o", color=INKS["orange"], markersize=5, label="least validation")
    for index, epoch in enumerate(curve.cuts):
        axes.axvline(
            epoch,
            color=INKS["green"],
            linewidth=0.9,
            linestyle=(0, (3, 2)),
            label=None if index else "rate cut",
        )
    axes.set_title(shown(curve.network))
    axes.set_xlabel("epoch", fontsize=SMALLEST_LETTERS)
    axes.set_ylabel("loss, nats", fontsize=SMALLEST_LETTERS)
    axes.grid(axis="y")
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=SMALLEST_LETTERS)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def _number(text: str | None) -> float:
    return float(text) if text else math.nan
