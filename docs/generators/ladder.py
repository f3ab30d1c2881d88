"""What twice the epochs bring the flat network, from rung to rung of a ladder."""

import statistics

from generators.records import differences, epochs, recorded
from generators.text import gain, table

PRESETS = ("ladder", "illustrations_ladder")
CONVERGED = 0.5
"""A flat network has converged if twice its epochs gain fewer points than this."""
_COLUMNS = ("epochs", "seeds", "points gained by twice the epochs")


def doublings(preset: str) -> str | None:
    """Returns one row per doubling, and the verdict; None without records."""
    records = recorded(preset)
    if not records:
        return None
    by_epochs = {epochs(runs): run for run, runs in sorted(records.items())}
    gains = {
        rung: differences(records, by_epochs[2 * rung], to=run)
        for rung, run in sorted(by_epochs.items())
        if 2 * rung in by_epochs
    }
    rows = [[f"{rung} to {2 * rung}", len(row), gain(row)] for rung, row in gains.items()]
    return f"{table(_COLUMNS, rows)}\n\n{_verdict(gains)}"


def _verdict(gains: dict[int, list[float]]) -> str:
    converged = [rung for rung, row in gains.items() if statistics.mean(row) < CONVERGED]
    if converged:
        return f"Converged at {converged[0]} epochs."
    return (
        f"Not converged at {max(gains)} epochs. Whether it is at {2 * max(gains)}, the largest "
        "recorded budget, more epochs would show."
    )
