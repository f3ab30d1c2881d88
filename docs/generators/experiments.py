"""Result tables of the recorded runs, one table a preset, and the curves' figures as tables."""

import json
import re
import statistics
from typing import Any

from generators.records import (
    COMPARED,
    METHODS,
    PARTWISE,
    accuracies,
    compared,
    differences,
    prediction_costs,
    recorded,
    test_images,
)
from generators.text import ROOT, mean, mean_and_deviation, span, table

CONTROLS = {
    "": "",
    "_random": "random groups of the same sizes",
    "_train_flops": "flat, with its training operations",
    "_macs": "flat, with its operations per prediction",
}
_FULL = dict.fromkeys(PARTWISE, "all branches executed") | {"dhnn": "all paths"}
"""For each method with another mode of prediction, that mode."""


def results(preset: str) -> str:
    """Returns one row per run of a preset, over the recorded seeds."""
    records = recorded(preset)
    any_record = next(iter(next(iter(records.values())).values()))
    # Sets that are evaluated with mirrored views have no white backgrounds.
    second, name = (
        ("msr_mirrored", "accuracy with mirrored view, %")
        if "msr_mirrored" in any_record["metrics"]
        else ("msr_white", "accuracy on white, %")
    )
    columns = (
        "run",
        "seeds",
        "accuracy, %",
        "difference to flat, points",
        name,
        "test images",
        "E[MAC] / flat",
        "training, s",
        "critical path, s",
    )
    return "\n\n".join(
        [
            table(columns, [_row(records, run, second) for run in _order(records)]),
            _caption(preset, any_record, records),
        ]
    )


def _order(records: dict[str, Any]) -> list[str]:
    return sorted(records, key=lambda name: (name != "flat", name))


def _row(records: dict[str, Any], run: str, second: str) -> list[object]:
    metrics = [record["metrics"] for record in records[run].values()]
    difference = differences(records, run)
    return [
        f"`{run}`",
        len(metrics),
        mean_and_deviation(accuracies(records, run)),
        "" if run == "flat" else f"{statistics.mean(difference):+.1f}",
        mean_and_deviation([100 * m[second] for m in metrics if m.get(second) is not None]),
        metrics[0]["n_test"],
        mean(prediction_costs(records, run), 3),
        mean([m["seconds_total"] for m in metrics], 0),
        mean([m["seconds_critical"] for m in metrics], 0),
    ]


def _caption(preset: str, record: dict[str, Any], records: dict[str, Any]) -> str:
    samples = record["data"]["samples"]
    commits = sorted({one["commit"] for run in records.values() for one in run.values()})
    commands = [re.sub(r"--seed \d+", "--seed SEED", line) for line in record["commands"]]
    return (
        f"{record['data']['labels']} labels; {samples['train']} / {samples['val']} / "
        f"{samples['test']} images for training / validation / test at "
        f"{record['data']['image']['side']} pixels. ± is the standard deviation over seeds. The "
        f"difference to flat is the mean over seeds of the difference to the flat network of the "
        f"same seed. Made by {', '.join(f'`{line}`' for line in dict.fromkeys(commands))} on "
        f"{record['machine']['cpu_cores']} {record['machine']['architecture']} cores at commit "
        f"{', '.join(commits)}; files in `experiments/{preset}/`."
    )


def comparison() -> str:
    """Returns each method and its controls on each data set, side by side."""
    sets = compared()
    runs = {"flat": ""} | {
        method + ending: text for method in METHODS for ending, text in CONTROLS.items()
    }
    rows = []
    for run, text in runs.items():
        cells = [_cell(records, run) for records in sets.values()]
        if any(cells):
            rows.append([f"`{run}`", text, *cells])
        if run in _FULL:
            cells = [_cell(records, run, measure="msr_full") for records in sets.values()]
            rows.append(["", _FULL[run], *cells])
    counts = ", ".join(f"{COMPARED[name]} {test_images(records)}" for name, records in sets.items())
    return "\n\n".join(
        [
            table(("run", "", *(COMPARED[name] for name in sets)), rows),
            (
                "Accuracy in %, ± its standard deviation over seeds where there are several; in "
                "brackets the difference to the flat network of the same seed in points, and the "
                f"number of seeds. Test images: {counts}. An empty cell was not recorded."
            ),
        ]
    )


def _cell(records: dict[str, Any], run: str, *, measure: str = "msr") -> str:
    if run not in records:
        return ""
    accuracy = mean_and_deviation(accuracies(records, run, measure=measure))
    if run == "flat":
        return f"{accuracy} ({len(records[run])})"
    difference = statistics.mean(differences(records, run, measure=measure))
    return f"{accuracy} ({difference:+.1f}; {len(records[run])})"


def measured(benchmark: str) -> dict[str, dict[str, Any]]:
    """Returns the details of a benchmark's committed result for each data set it was run on."""
    paths = {
        name: ROOT / "benchmarks" / "results" / f"{benchmark}-{preset}.json"
        for preset, name in COMPARED.items()
    }
    return {
        name: json.loads(path.read_text(encoding="utf-8"))["details"]
        for name, path in paths.items()
        if path.exists()
    }


def averaging() -> str:
    """Returns what conditional execution and compression of HD-CNN save and lose."""
    smaller, rows = measured("compression"), []
    for name, details in measured("conditional").items():
        seeds = details["seeds"]
        chosen = [
            next(row for row in seed["curve"] if row["beta"] == seed["beta"]) for seed in seeds
        ]
        packed = [
            seed["chosen"] for seed in smaller.get(name, {}).get("seeds", ()) if seed["chosen"]
        ]
        rows.append(
            [
                name,
                len(seeds),
                span([seed["components"] for seed in seeds]),
                span([seed["beta"] for seed in seeds]),
                mean_and_deviation([100 * seed["share"] for seed in seeds]),
                mean_and_deviation([100 * seed["loss"] for seed in seeds]),
                _milliseconds(chosen),
                _milliseconds([seed["curve"][-1] for seed in seeds]),
                span([row["codebook"] for row in packed]),
                mean_and_deviation([100 * row["loss"] for row in packed]),
            ]
        )
    columns = (
        "data",
        "seeds",
        "components",
        "beta",
        "share of their MACs, %",
        "points lost",
        "ms per image, batch 1 / 256",
        "ms with all components",
        "codebook of factor 4",
        "points lost by it",
    )
    return table(columns, rows)


def swept() -> str | None:
    """Returns HD-CNN for several numbers of clusters and overlaps; None where that is not recorded."""
    details = measured("hdcnn_sweep").get(COMPARED["methods"])
    if details is None:
        return None
    flat = details["flat"]
    rows = [["`flat`", *[""] * 4, "1.000", f"{flat['val']:.1f}", f"{flat['test']:.1f}", ""]]
    for cell in details["cells"]:
        test = statistics.mean(cell["test"])
        rows.append(
            [
                span(cell["sets"]),
                f"{cell['overlap']:g}",
                span(cell["sets_per_label"]),
                "yes" if cell["share"] else "no",
                f"{cell['params'] / 1e6:.2f}",
                f"{cell['macs_expected']:.3f}",
                mean_and_deviation(cell["val"]),
                mean_and_deviation(cell["test"]),
                f"{test - flat['test']:+.1f}",
            ]
        )
    columns = (
        "K",
        "gamma",
        "sets per label",
        "shared layers",
        "parameters, millions",
        "E[MAC] / flat",
        "validation, %",
        "test, %",
        "difference to flat, points",
    )
    return table(columns, rows)


def _milliseconds(rows: list[dict[str, Any]]) -> str:
    times = [
        statistics.mean(
            row["latency"][index]["median_ms"] / row["latency"][index]["batch"] for row in rows
        )
        for index in (0, 1)
    ]
    return " / ".join(f"{value:.2f}" for value in times)


def adapted() -> str:
    """Returns the accuracies of merged networks at some alphas, and their training cost."""
    rows = []
    for name, details in measured("adaptation").items():
        for run, seeds in details["runs"].items():
            accuracy = [
                mean([100 * seed["test"][level][alpha] for seed in seeds.values()])
                for level in ("fine", "coarse")
                for alpha in ("0.0", "1.0", "2.0", "chosen")
            ]
            training = details["training"][run]
            cost = [
                f"{training[key]:.2f}" if key in training else ""
                for key in ("seconds_ratio", "flops_ratio")
            ]
            rows.append([name, f"`{run}`", len(seeds), *accuracy, *cost])
    columns = (
        "data",
        "run",
        "seeds",
        "labels, %: alpha 0",
        "1",
        "2",
        "chosen",
        "categories, %: alpha 0",
        "1",
        "2",
        "chosen",
        "seconds / two networks",
        "operations / two networks",
    )
    return table(columns, rows)


def decoded() -> str:
    """Returns the accuracy of DHNN against the width of its beam, and of its steps without a tree."""
    rows = []
    for name, details in measured("beam").items():
        for run, seeds in details["runs"].items():
            curves = zip(*(seed["curve"] for seed in seeds.values()), strict=True)
            free = [seed["free"] for seed in seeds.values() if seed["free"]]
            accuracy = [mean([100 * row["accuracy"] for row in rows_of]) for rows_of in curves]
            shares = [mean([100 * one[key] for one in free]) for key in ("paths", "paths_right")]
            rows.append([name, f"`{run}`", len(seeds), *accuracy, *shares])
    columns = (
        "data",
        "run",
        "seeds",
        "beam 1, %",
        "2",
        "4",
        "8",
        "all paths",
        "without the tree: valid paths, %",
        "correct paths, %",
    )
    return table(columns, rows)
