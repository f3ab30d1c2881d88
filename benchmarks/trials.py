"""
Accuracy on validation images of every trained run of seed 0, for a choice that sees no test image.

Run after the trainings of a preset of trials, such as `signals`.
"""

from pathlib import Path

from benchmarks.shared import validation
from benchmarks.shared.result import Result

FLAT = "flat"


def run() -> Result:
    """Returns the largest gain over flat in points, and the accuracy of each run in %."""
    paths = sorted(Path("results").glob("*/0/validation.parquet"))
    accuracies = {path.parent.parent.name: validation.accuracy(path.parent) for path in paths}
    if FLAT not in accuracies:
        raise SystemExit("results/flat/0 is absent: train the runs of the preset first")
    gains = {name: value - accuracies[FLAT] for name, value in accuracies.items()}
    return Result(
        value=max(gains.values()),
        unit="points of validation accuracy gained over flat",
        bar="none: a choice, not a result",
        ok=True,
        runs=[gain for name, gain in gains.items() if name != FLAT],
        details={"accuracy": accuracies},
        commands=["dvc repro"],
    )
