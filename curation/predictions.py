"""Finds the predictions of trained runs: RESULTS/RUN/SEED/predictions.parquet."""

from pathlib import Path


def files(results_dir: Path) -> list[tuple[str, int, Path]]:
    """Returns run, seed and path of every file of predictions, in the order of names."""
    return [
        (path.parent.parent.name, int(path.parent.name), path)
        for path in sorted(results_dir.glob("*/*/predictions.parquet"))
        if path.parent.name.isdecimal()
    ]
