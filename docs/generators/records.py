"""The records under `experiments/`: figures of each run and seed, and differences between them."""

import json
import statistics
from collections import defaultdict
from typing import Any

from scipy import stats

from generators.text import ROOT

Records = dict[str, dict[int, dict[str, Any]]]
"""By name of the run and by seed."""
COMPARED = {  # presets side by side, and the data set of each
    "methods": "demo",
    "illustrations": "illustrations",
    "cifar100_small": "CIFAR-100",
    "cifar100_resnet20": "CIFAR-100, ResNet-20",
}
LONG = {
    "converged": "methods",
    "illustrations_systems": "illustrations",
    "cifar100_systems": "cifar100_small",
}
"""Presets of the five systems in longer trainings, and the preset of the short ones on the same images."""
LADDERS = {"converged": "ladder", "illustrations_systems": "illustrations_ladder"}
"""Presets of flat networks at 16 to 256 epochs on the data of a preset of longer trainings."""
METHODS = ("uppsala", "hiernet", "hdcnn", "merged", "dhnn")
MEASURES = dict.fromkeys(METHODS, "msr") | {"dhnn": "msr_full"}
"""The accuracy that is compared: of one route; of all paths for `dhnn`, where they cost no more."""
LEVEL = 0.5
"""Points: smaller differences count as level, as in experiments/PROTOCOL.md."""
PARTWISE = ("uppsala", "hiernet", "hdcnn")
"""Methods whose parts start from a trained flat network."""


def presets() -> list[str]:
    """Returns the names of all presets with records."""
    return sorted(path.name for path in (ROOT / "experiments").iterdir() if path.is_dir())


def recorded(preset: str) -> Records:
    """Returns the records of each run of a preset, by seed."""
    records: Records = defaultdict(dict)
    for path in sorted((ROOT / "experiments" / preset).glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        records[record["run"]][record["seed"]] = record
    return dict(records)


def compared() -> dict[str, Records]:
    """Returns the records of the presets that are compared, by preset; those without are left out."""
    return {preset: records for preset in COMPARED if (records := recorded(preset))}


def longer() -> dict[str, Records]:
    """Returns the records of the presets of longer trainings, by preset; those without are left out."""
    return {preset: records for preset in LONG if (records := recorded(preset))}


def by_budget() -> dict[str, Records]:
    """
    Returns the records of short and of longer trainings by data set and epochs of the flat network.

    ResNet-20 is left out: it is another network than that of the other sets.
    """
    budgets = compared() | longer()
    return {
        f"{COMPARED[short]} at {flat_epochs(budgets[preset])} epochs": budgets[preset]
        for short in COMPARED
        if short != "cifar100_resnet20"
        for preset in (short, *(name for name, base in LONG.items() if base == short))
        if preset in budgets
    }


def flat_epochs(records: Records) -> int:
    """Returns the epochs of the flat network of a preset."""
    return epochs(records["flat"])


def epochs(runs: dict[int, dict[str, Any]]) -> int:
    """Returns the epochs of a run, of any of its seeds."""
    return int(next(iter(runs.values()))["params"]["loop"]["epochs"])


def test_images(records: Records) -> int:
    """Returns the number of test images of a preset."""
    return int(next(iter(records["flat"].values()))["metrics"]["n_test"])


def accuracies(records: Records, run: str, *, measure: str = "msr") -> list[float]:
    """Returns the accuracy of a run in per cent, one value a seed."""
    return [100 * record["metrics"][measure] for _, record in sorted(records[run].items())]


def differences(
    records: Records, run: str, *, to: str = "flat", measure: str = "msr", of_other: str = "msr"
) -> list[float]:
    """
    Returns the points by which `run` is ahead of run `to`, one value for each seed of both.

    `measure` is the accuracy of `run`, `of_other` that of `to`: a flat network has only `msr`.
    """
    both = sorted(set(records.get(run, {})) & set(records.get(to, {})))
    return [
        100 * (records[run][seed]["metrics"][measure] - records[to][seed]["metrics"][of_other])
        for seed in both
    ]


def prediction_costs(records: Records, run: str) -> list[float]:
    """Returns the operations of a prediction, relative to those of `flat`, one value a seed."""
    flat = next(iter(records["flat"].values()))["metrics"]["macs_expected"]
    return [record["metrics"]["macs_expected"] / flat for record in records[run].values()]


def training_operations(record: dict[str, Any]) -> float:
    """Returns the operations that trained a run in 10^12, without those of the flat network before."""
    return float(sum(network["train_flops"] for network in record["fit"]["networks"])) / 1e12


def interval(values: list[float]) -> tuple[float, float]:
    """Returns the 95 % interval of the mean by Student's t, over at least two values."""
    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return statistics.mean(values) - half, statistics.mean(values) + half
