"""
The test of experiments/PROTOCOL.md: each finalist against all its controls, over five fresh seeds.

Run after the trainings of preset `finalists`. A difference is paired by seed and image; its interval
is the wider one of the bootstrap over test images and Student's t over seeds. p is that of the paired
t test over seeds, with Holm's correction over all comparisons of the protocol. Those of a finalist
whose runs are not all evaluated yet are missing, and count in the correction with p = 1.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.shared.result import Result
from train.evaluation.statistics import holm, paired_interval
from train.page.differences import t_interval

SEEDS = (11, 12, 13, 14, 15)
CONTROLS = {
    "tree_s30": ("flat", "flat_s30", "tree_s30_random"),
    "online": ("flat",),
    "recover": ("flat", "recover_train_flops", "recover_macs", "recover_one", "recover_random"),
}
LEVEL, LEAST = 0.01, 0.005  # of p after the correction; of the difference, as a share
RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Comparison:
    """A finalist minus one control, in points of test accuracy."""

    finalist: str
    control: str
    difference: float
    low: float
    high: float
    by_seed: tuple[float, ...]
    p: float
    p_holm: float = 1.0
    train_flops_ratio: float = 1.0
    macs_ratio: float = 1.0

    @property
    def is_won(self) -> bool:
        """Whether the finalist is ahead by enough, beyond chance."""
        return self.p_holm < LEVEL and self.difference >= 100 * LEAST


def run(results_dir: Path = Path("results")) -> Result:
    """Returns the number of finalists that win against every control, with all comparisons."""
    return test("finalists", CONTROLS, results_dir)


def test(preset: str, controls: Mapping[str, Sequence[str]], results_dir: Path) -> Result:
    """Returns how many finalists of a preset are ahead of all their controls, with all comparisons."""
    absent = {
        finalist: _absent(results_dir, (finalist, *names)) for finalist, names in controls.items()
    }
    tested = [finalist for finalist in controls if not absent[finalist]]
    if not tested:
        names = sorted(set().union(*absent.values()))
        raise SystemExit(f"not evaluated yet: {', '.join(names)}. Run dvc repro first.")
    compared = [
        _compare(results_dir, finalist, control)
        for finalist in tested
        for control in controls[finalist]
    ]
    planned = sum(map(len, controls.values()))
    missing = [1.0] * (planned - len(compared))
    runs = [name for finalist in tested for name in (finalist, *controls[finalist])]
    corrected = holm([each.p for each in compared] + missing)[: len(compared)]
    rows = [replace(each, p_holm=p) for each, p in zip(compared, corrected, strict=True)]
    winners = [
        finalist
        for finalist in tested
        if all(row.is_won for row in rows if row.finalist == finalist)
    ]
    return Result(
        value=len(winners),
        unit=f"of {len(tested)} finalists ahead of every control",
        bar="none: the answer of the protocol",
        ok=True,
        runs=[row.difference for row in rows],
        details={
            "winners": winners,
            "not_evaluated": {name: runs for name, runs in absent.items() if runs},
            "comparisons": [asdict(row) for row in rows],
            "accuracy": {name: _accuracies(results_dir, name) for name in dict.fromkeys(runs)},
        },
        commands=[f"make preset NAME={preset}", "dvc repro"],
    )


def _absent(results_dir: Path, names: Sequence[str]) -> list[str]:
    return [
        f"{name} {seed}"
        for name in names
        for seed in SEEDS
        if not (results_dir / name / str(seed) / "predictions.parquet").exists()
    ]


def _compare(results_dir: Path, finalist: str, control: str) -> Comparison:
    changes = [
        _correct(results_dir, finalist, seed).astype(float) - _correct(results_dir, control, seed)
        for seed in SEEDS
    ]
    by_seed = [float(change.mean()) for change in changes]
    over_images = paired_interval(np.mean(changes, axis=0), resamples=RESAMPLES, seed=0)
    over_seeds = t_interval(by_seed)
    assert over_seeds is not None, "there are five seeds"  # noqa: S101  # our own mistake
    wider = max((over_images, over_seeds), key=lambda interval: interval.high - interval.low)
    costs = [_costs(results_dir, name) for name in (finalist, control)]
    return Comparison(
        finalist=finalist,
        control=control,
        difference=100 * over_images.mean,
        low=100 * wider.low,
        high=100 * wider.high,
        by_seed=tuple(100 * each for each in by_seed),
        p=over_seeds.p_value,
        train_flops_ratio=costs[0][0] / costs[1][0],
        macs_ratio=costs[0][1] / costs[1][1],
    )


def _correct(results_dir: Path, name: str, seed: int) -> np.ndarray:
    """Returns of each test image, in the order of posts, whether its label is predicted."""
    path = results_dir / name / str(seed) / "predictions.parquet"
    table = pq.read_table(path, columns=["post_id", "split", "label", "predicted"])
    table = table.filter(pc.field("split") == "test").sort_by("post_id")
    return np.asarray(table["label"].to_numpy() == table["predicted"].to_numpy())


def _accuracies(results_dir: Path, name: str) -> list[float]:
    return [100 * float(_correct(results_dir, name, seed).mean()) for seed in SEEDS]


def _costs(results_dir: Path, name: str) -> tuple[float, float]:
    """Returns operations of the training and expected MACs of a prediction, means over seeds."""
    flops, macs = [], []
    for seed in SEEDS:
        folder = results_dir / name / str(seed)
        fit = json.loads((folder / "fit.json").read_text())
        flops.append(sum(network["train_flops"] for network in fit["networks"]))
        macs.append(json.loads((folder / "metrics.json").read_text())["macs_expected"])
    return statistics.mean(flops), statistics.mean(macs)
