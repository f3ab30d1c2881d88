"""
The test of the third hypothesis of experiments/PROTOCOL.md: `recover` in a network of an eighth of the width.

Run after the trainings of preset `narrow`. Differences, intervals, p and the bar of a win are those of
`finalists`; the correction is over the three comparisons here. `flat` trains for as many operations
as `recover` and its controls, and predicts with at least as many.
"""

from pathlib import Path

from benchmarks import finalists
from benchmarks.shared.result import Result

CONTROLS = {"recover": ("flat", "recover_one", "recover_random")}


def run(results_dir: Path = Path("results")) -> Result:
    """Returns 1 if `recover` is ahead of every control, else 0, with all comparisons."""
    return finalists.test("narrow", CONTROLS, results_dir)
