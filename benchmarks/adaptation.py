"""
Classifier adaptation of merged networks: accuracy by alpha, agreement, and training time.

Run after `fit` of runs of method `merged`, and `evaluate` of `flat` and of runs that have a tree. The
details have the curves of figures 3 and 4 of Dutt, Pellerin and Quénot (2017) on validation and test
images, for every run and seed, for ensembles of seeds, and for the flat network with the categories
of each tree; the points of their figure 1; and tests of the differences. Validation images choose
alpha. Bar: at the chosen alpha the accuracy of both levels is at least that at alpha 0, in the mean
over runs and seeds. Runs with random groups are controls, which do not count for the bar.
"""

import json
import logging
import statistics
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from benchmarks.shared.differences import LEVELS, CorrectByAlpha, compared
from benchmarks.shared.result import Result
from personae import files
from train import saved
from train.data.images import open_split
from train.evaluation import prediction
from train.methods.merged import adaptation
from train.tree import hierarchy

SPLITS = ("val", "test")
SIZES = (1, 2, 4)  # members of an ensemble, as in the paper; 1 is a run itself
POINTS = 200  # images of the category, and as many others, in the scatter
DIGITS = 5  # significant digits of every figure in the details

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HeadOutputs:
    """Probabilities of both levels for the images of one split, before adaptation."""

    coarse: torch.Tensor
    fine: torch.Tensor
    labels: torch.Tensor
    parents: torch.Tensor


Both = dict[str, HeadOutputs]
"""By split."""


def of_run(folder: Path, data_dir: Path, work_dir: Path) -> Both:
    """Returns the outputs of both heads of a merged run, without adaptation."""
    classifier: Any = saved.load(folder).classifier
    outputs = {}
    for split in SPLITS:
        images = open_split(data_dir / "shards", work_dir / "cache", split)
        with torch.no_grad():
            batches = prediction.batches(images, torch.device("cpu"))
            pairs = list(zip(*(classifier.confidences(x) for x in batches), strict=True))
        coarse, fine = (torch.cat(parts) for parts in pairs)
        labels = torch.from_numpy(images.labels)
        outputs[split] = HeadOutputs(coarse, fine, labels, classifier.parents)
    return outputs


def of_flat(folder: Path, flat: Path) -> Both | None:
    """Returns the flat network's labels with another run's categories; None without a partition."""
    graph = hierarchy.from_json(files.read_json(folder / "model.json", stage="fit")["hierarchy"])
    clusters = hierarchy.clusters(graph)
    if sum(map(len, clusters)) != len(graph.nodes[hierarchy.ROOT]["members"]):
        return None
    try:
        ours = pq.read_table(flat / "predictions.parquet").sort_by("post_id")
        theirs = pq.read_table(folder / "predictions.parquet").sort_by("post_id")
    except FileNotFoundError:
        return None
    if theirs["coarse"].null_count or ours["post_id"] != theirs["post_id"]:
        return None
    fine = torch.tensor(ours["probabilities"].to_pylist())
    coarse = torch.tensor(theirs["coarse"].to_pylist())
    labels = torch.from_numpy(ours["label"].to_numpy().astype(np.int64))
    splits = np.array(ours["split"].to_pylist())
    parents = torch.from_numpy(hierarchy.parents(clusters))
    return {
        split: HeadOutputs(
            coarse[splits == split], fine[splits == split], labels[splits == split], parents
        )
        for split in SPLITS
    }


def averaged(members: Iterable[Both]) -> Both:
    """Returns an ensemble: the mean of the members' probabilities for each level."""
    every = list(members)
    return {
        split: HeadOutputs(
            torch.stack([member[split].coarse for member in every]).mean(dim=0),
            torch.stack([member[split].fine for member in every]).mean(dim=0),
            every[0][split].labels,
            every[0][split].parents,
        )
        for split in SPLITS
    }


def measure(outputs: Both) -> dict[str, Any]:
    """Returns the curves of both splits, the alphas chosen on validation, and the agreement on test."""
    curves = {split: _curve(heads) for split, heads in outputs.items()}
    alphas = dict(zip(LEVELS, adaptation.chosen(curves["val"]), strict=True))
    reached = {
        level: {str(alpha): getattr(_at(curves["test"], alpha), level) for alpha in (0.0, 1.0, 2.0)}
        | {"chosen": getattr(_at(curves["test"], alphas[level]), level)}
        for level in LEVELS
    }
    return {
        "alpha": alphas,
        "test": reached,
        "agreement": agreement(outputs["test"], alphas),
        "curves": {
            split: {name: [asdict(point)[name] for point in points] for name in LEVELS}
            for split, points in curves.items()
        },
    }


def correct_by_alpha(heads: HeadOutputs, alphas: Mapping[str, float]) -> CorrectByAlpha:
    """Returns which images are predicted correctly at every alpha, and the given chosen alphas."""
    truth = {"coarse": heads.parents[heads.labels], "fine": heads.labels}
    correct: dict[str, list[np.ndarray]] = {level: [] for level in LEVELS}
    for alpha in adaptation.GRID:
        sides = _adapted(heads, dict.fromkeys(LEVELS, alpha))
        for level, side in zip(LEVELS, sides, strict=True):
            correct[level].append((side.argmax(dim=1) == truth[level]).numpy())
    parents = tuple(heads.parents.tolist())
    stacked = {level: np.stack(rows) for level, rows in correct.items()}
    return CorrectByAlpha(stacked, alphas, parents)


def agreement(heads: HeadOutputs, alphas: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Returns the distance of P_c and Q, and how often both predict the same category."""
    sides = (heads.coarse, heads.fine, heads.parents)
    adapted = {
        "chosen": _adapted(heads, alphas),
        "full": _adapted(heads, {"coarse": 1.0, "fine": 1.0}),
    }
    result = {}
    for name, (coarse, fine) in {"none": sides[:2], **adapted}.items():
        same = coarse.argmax(dim=1) == heads.parents[fine.argmax(dim=1)]
        apart = adaptation.disagreement(coarse, fine, heads.parents)
        result[name] = {
            "mass_apart": float(apart.mean()),
            "same_category": float(same.double().mean()),
        }
    return result


def scatter(heads: HeadOutputs, *, category: int = 0, points: int = POINTS) -> dict[str, Any]:
    """Returns P_c and Q of one category for its images and for others (figure 1 of the paper)."""
    totals = adaptation.sums(heads.fine, heads.parents, categories=heads.coarse.shape[1])
    inside = heads.parents[heads.labels] == category
    sides = {"P_c": heads.coarse[:, category], "Q": totals[:, category]}
    return {"category": category} | {
        who: {name: side[rows][:points].tolist() for name, side in sides.items()}
        for who, rows in (("members", inside), ("others", ~inside))
    }


def sizes(seeds: int) -> tuple[list[int], list[int]]:
    """Returns the ensemble sizes that `seeds` seeds allow, and the sizes of the paper that they do not."""
    candidates = {*SIZES, 3} if seeds == 3 else set(SIZES)
    possible = sorted(size for size in candidates if 1 < size <= seeds)
    return possible, [size for size in SIZES if size > seeds]


def ensembles(members: Mapping[int, Both]) -> dict[str, Any]:
    """Returns the figures of every ensemble: averaged then adapted, and adapted then averaged."""
    result: dict[str, Any] = {}
    for size in sizes(len(members))[0]:
        rows = []
        for seeds in combinations(sorted(members), size):
            chosen = [members[seed] for seed in seeds]
            row = {"seeds": list(seeds), **measure(averaged(chosen))}
            del row["curves"]
            row["adapted_before"] = _adapted_before(chosen)
            rows.append(row)
        result[str(size)] = rows
    return result


def _adapted_before(members: list[Both]) -> dict[str, float]:
    """Returns the accuracies if each member is adapted with its own alphas before averaging."""
    rows = []
    for member in members:
        alphas = dict(zip(LEVELS, adaptation.chosen(_curve(member["val"])), strict=True))
        rows.append(_adapted(member["test"], alphas))
    coarse, fine = (torch.stack(side).mean(dim=0).argmax(dim=1) for side in zip(*rows, strict=True))
    labels, parents = members[0]["test"].labels, members[0]["test"].parents
    return {
        "coarse": float((coarse == parents[labels]).double().mean()),
        "fine": float((fine == labels).double().mean()),
    }


def _adapted(heads: HeadOutputs, alphas: Mapping[str, float]) -> tuple[torch.Tensor, torch.Tensor]:
    sides = (heads.coarse, heads.fine, heads.parents)
    return (
        adaptation.adapt_coarse(*sides, alpha=alphas["coarse"]),
        adaptation.adapt_fine(*sides, alpha=alphas["fine"]),
    )


def _curve(heads: HeadOutputs) -> list[adaptation.AlphaAccuracy]:
    return adaptation.curve(heads.coarse, heads.fine, heads.labels, heads.parents)


def _at(points: list[adaptation.AlphaAccuracy], alpha: float) -> adaptation.AlphaAccuracy:
    return next(point for point in points if point.alpha == alpha)


def trained(results_dir: Path, runs: Mapping[str, Iterable[int]]) -> dict[str, Any]:
    """Returns mean seconds and FLOPs of each run's training, and their ratios to separate networks."""
    costs: dict[str, Any] = {}
    separate = None
    for name, seeds in runs.items():
        fits = [_fit(results_dir / name / str(seed)) for seed in seeds]
        means = {key: statistics.mean(fit[key] for fit in fits) for key in fits[0]}
        costs[name] = means
        facts = files.read_json(results_dir / name / str(min(seeds)) / "model.json", stage="fit")
        separate = means if facts["params"]["merged"].get("separate") else separate
    if separate is not None:
        for means in list(costs.values()):
            means["seconds_ratio"] = means["seconds"] / separate["seconds"]
            means["flops_ratio"] = means["train_flops"] / separate["train_flops"]
    return costs


def _fit(folder: Path) -> dict[str, float]:
    facts = files.read_json(folder / "fit.json", stage="fit")
    flops = sum(network["train_flops"] for network in facts["networks"])
    return {"seconds": float(facts["total_seconds"]), "train_flops": float(flops)}


def _folders(results_dir: Path) -> dict[str, dict[str, dict[int, Path]]]:
    """HdcnnRun seeds of every run with a tree: by kind (merged, tree), run and seed."""
    folders: dict[str, dict[str, dict[int, Path]]] = {"merged": {}, "tree": {}}
    for path in sorted(results_dir.glob("*/[0-9]*/model.json")):
        facts = json.loads(path.read_text())
        if facts["grouping"] is None:
            continue
        kind = "merged" if facts["method"] == "merged" else "tree"
        seeds = folders[kind].setdefault(facts["run"], {})
        seeds[int(facts["seed"])] = path.parent
    return folders


def measured(folders: Mapping[str, Mapping[int, Path]], **inputs: Path) -> dict[str, Any]:
    """Returns the figures of merged runs; runs with random groups are not compared with other runs."""
    details: dict[str, Any] = {"runs": {}, "ensembles": {}, "ensembles_left_out": {}, "scatter": {}}
    tests: dict[str, dict[int, CorrectByAlpha]] = {}
    for name, seeds in folders.items():
        outputs = {seed: of_run(path, **inputs) for seed, path in sorted(seeds.items())}
        rows = {seed: measure(both) for seed, both in outputs.items()}
        tests[name] = {
            seed: correct_by_alpha(both["test"], rows[seed]["alpha"])
            for seed, both in outputs.items()
        }
        details["runs"][name] = rows
        details["ensembles"][name] = ensembles(outputs)
        details["ensembles_left_out"][name] = left_out = sizes(len(outputs))[1]
        details["scatter"][name] = scatter(outputs[min(outputs)]["test"])
        if left_out:
            log.info("%s: %d seeds, no ensembles of %s", name, len(outputs), left_out)
    details["random"] = [name for name, seeds in folders.items() if _is_random(seeds)]
    free = [name for name, seeds in folders.items() if not _is_fixed(seeds)]
    details["tests"] = compared(tests, [name for name in free if name not in details["random"]])
    return details


def of_trees(
    folders: Mapping[str, Mapping[int, Path]], results_dir: Path
) -> dict[str, dict[int, Any]]:
    """Returns the figures of the flat network with the categories of every tree with a partition."""
    figures = {}
    for name, seeds in folders.items():
        outputs = {
            seed: of_flat(path, results_dir / "flat" / str(seed)) for seed, path in seeds.items()
        }
        rows = {seed: measure(both) for seed, both in sorted(outputs.items()) if both is not None}
        for row in rows.values():
            del row["curves"]  # only merged networks keep them, so that the file stays small
        if rows:
            figures[name] = rows
    return figures


def run(
    results_dir: Path = Path("results"),
    data_dir: Path = Path("data"),
    work_dir: Path = Path("work"),
) -> Result:
    """Returns the median over merged runs and seeds of the accuracy of labels that adaptation adds."""
    folders = _folders(results_dir)
    if all(_is_random(seeds) for seeds in folders["merged"].values()):
        raise SystemExit(
            "no run of method merged with given or predicted groups was trained: run `dvc repro`"
        )
    details = measured(folders["merged"], data_dir=data_dir, work_dir=work_dir)
    random = details["random"]
    grouped = [name for name in details["runs"] if name not in random]
    gains = {level: gained(details["runs"], grouped, level) for level in LEVELS}
    manifest = data_dir / "shards" / "manifest.json"
    details |= {
        "alphas": adaptation.GRID,
        "flat": of_trees(folders["tree"], results_dir),
        "training": trained(results_dir, folders["merged"]),
        "gains": gains,
        "gains_random": {level: gained(details["runs"], random, level) for level in LEVELS},
        "root_sha256": files.read_json(manifest, stage="shards")["root_sha256"],
    }
    return Result(
        value=statistics.median(gains["fine"]),
        unit="share of the test images",
        bar=">= 0 in the mean, for labels and for categories",
        ok=all(statistics.mean(gain) >= 0 for gain in gains.values()),
        runs=gains["fine"],
        peer="the same networks without adaptation (alpha 0)",
        details=_short(details),
        commands=["dvc repro"],
    )


def gained(
    runs: Mapping[str, Mapping[int, Any]], names: Collection[str], level: str
) -> list[float]:
    """Returns accuracy at the chosen alpha minus accuracy at 0 for every seed of the named runs."""
    rows = [row["test"][level] for name in names for row in runs[name].values()]
    return [row["chosen"] - row["0.0"] for row in rows]


def _is_random(seeds: Mapping[int, Path]) -> bool:
    return str(_facts(seeds)["grouping"]).startswith("random")


def _is_fixed(seeds: Mapping[int, Path]) -> bool:
    """Returns whether the run has a fixed alpha, so that its network equals that of another run."""
    own = _facts(seeds)["params"]["merged"]
    return any(own.get(f"alpha_{level}") is not None for level in LEVELS)


def _facts(seeds: Mapping[int, Path]) -> dict[str, Any]:
    return files.read_json(seeds[min(seeds)] / "model.json", stage="fit")


def _short(value: Any) -> Any:
    """Returns the document with every figure rounded, so that the file stays small."""
    if isinstance(value, dict):
        return {key: _short(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_short(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
