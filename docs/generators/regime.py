"""Where a hierarchy pays: the recorded gains of `recover` by training budget and by capacity."""

import statistics

from generators.records import Records, accuracies, differences, recorded
from generators.text import span, table

CELLS = (  # suffix of the runs, epochs, width
    ("_16", 16, "1/2"),
    ("", 32, "1/2"),
    ("_64", 64, "1/2"),
    ("_eighth", 32, "1/8"),
    ("_quarter", 32, "1/4"),
    ("_whole", 32, "1"),
)
_CONTROLS = ("flat", "recover_one", "recover_random")
_COLUMNS = ("epochs", "width", "seeds", "flat, %", *(f"to `{name}`" for name in _CONTROLS))


def regime() -> str | None:
    """Returns one row per cell: points by which `recover` is ahead of each control; None without records."""
    records = recorded("regime")
    if not records:
        return None
    rows = [_row(records, suffix, epochs, width) for suffix, epochs, width in CELLS]
    rows.insert(3, _row(recorded("finalists"), "", 128, "1/2"))
    return table(_COLUMNS, rows)


def _row(records: Records, suffix: str, epochs: int, width: str) -> list[object]:
    flat, run = f"flat{suffix}", f"recover{suffix}"
    seeds = len(set(records.get(flat, {})) & set(records.get(run, {})))
    if not seeds:
        return [epochs, width, 0, "", *([""] * len(_CONTROLS))]
    gains = [differences(records, run, to=f"{control}{suffix}") for control in _CONTROLS]
    return [
        epochs,
        width,
        seeds,
        f"{statistics.mean(accuracies(records, flat)):.1f}",
        *(_gain(values) for values in gains),
    ]


def _gain(values: list[float]) -> str:
    if not values:
        return ""
    mean = f"{statistics.mean(values):+.1f}"
    return mean if len(values) == 1 else f"{mean} ({span(values, '{:+.1f}'.format)})"
