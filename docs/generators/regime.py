"""Where a hierarchy pays: the recorded gains of `recover` by training budget, width and data set."""

import statistics
from fractions import Fraction
from typing import NamedTuple

from generators.records import accuracies, differences, interval, recorded
from generators.text import gain, table


class Cell(NamedTuple):
    """One budget, width and data set, at which `recover` and its controls are compared."""

    epochs: int
    width: Fraction
    suffix: str
    """That the names of the runs end with."""
    preset: str = "regime"
    labels: int = 12


_HALF = Cell(32, Fraction(1, 2), "")
BUDGETS = (
    Cell(16, Fraction(1, 2), "_16"),
    _HALF,
    Cell(64, Fraction(1, 2), "_64"),
    Cell(128, Fraction(1, 2), "", "finalists"),
)
WIDTHS = (
    Cell(32, Fraction(1, 8), "_eighth"),
    Cell(32, Fraction(1, 4), "_quarter"),
    _HALF,
    Cell(32, Fraction(1), "_whole"),
)
NARROW = (
    Cell(128, Fraction(1, 8), "", "narrow"),
    Cell(128, Fraction(1, 8), "_eighth", "illustrations_systems", 73),
    Cell(22, Fraction(1, 8), "_eighth", "cifar100_systems", 100),
)
DATA = (
    Cell(128, Fraction(1, 2), "", "illustrations_systems", 73),
    Cell(22, Fraction(1, 2), "", "cifar100_systems", 100),
)
CONTROLS = ("flat", "recover_one", "recover_random")
_LEGEND = (
    "Means over seeds, in brackets the smallest and the largest value. Bold: the 95 % t interval over "
    "seeds excludes zero."
)
_COLUMNS = (
    "labels",
    "epochs",
    "width",
    "seeds",
    "flat, %",
    *(f"to `{name}`" for name in CONTROLS),
)


def regime() -> str | None:
    """Returns one row per cell: points by which `recover` is ahead of each control; None without records."""
    if not recorded("regime"):
        return None
    cells = dict.fromkeys((*BUDGETS, *WIDTHS, *NARROW, *DATA))
    return f"{table(_COLUMNS, map(_row, cells))}\n\n{_LEGEND}"


def gains(cell: Cell, control: str) -> list[float]:
    """Returns the points by which `recover` is ahead of a control, one value a seed."""
    run, to = (f"{name}{cell.suffix}" for name in ("recover", control))
    return differences(recorded(cell.preset), run, to=to)


def _row(cell: Cell) -> list[object]:
    by_control = [gains(cell, control) for control in CONTROLS]
    seeds = len(by_control[0])
    flat = accuracies(recorded(cell.preset), f"flat{cell.suffix}") if seeds else []
    accuracy = f"{statistics.mean(flat):.1f}" if flat else ""
    return [cell.labels, cell.epochs, cell.width, seeds, accuracy, *map(_gain, by_control)]


def _gain(values: list[float]) -> str:
    low, high = interval(values) if len(values) > 1 else (0, 0)
    return gain(values) if low <= 0 <= high else f"**{gain(values)}**"
