"""
Accuracy against alpha, agreement and training time of merged networks (methods.md 3).

Run after `fit` of runs of method `merged`, and `evaluate` of `flat` and of runs that have a tree.
The curves of Dutt's figures 3 and 4 on validation and test images, for every run and seed, for
ensembles of seeds, and for the flat network with the categories of each tree; the points of its
figure 1; tests of the differences. alpha is chosen on validation. Bar: at the chosen alpha both
levels are at least as good as at 0, in the mean over runs and seeds. Runs of random groups are
controls: they are told beside, and the bar leaves them out.
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

from benchmarks.differences import LEVELS, Tried, compared
from benchmarks.result import Result
from personae import files
from train import saved
from train.data import pictures as data
from train.evaluation import prediction
from train.methods.merged import adaptation
from train.tree import hierarchy

SPLITS = ("val", "test")
SIZES = (1, 2, 4)  # members of an ensemble, as the paper has them; 1 are the runs themselves
POINTS = 200  # images of the category, and as many others, in the scatter
DIGITS = 5  # of every figure in the details

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answers:
    """What the two sides say of the images of one split before they are adapted."""

    coarse: torch.Tensor
    fine: torch.Tensor
    labels: torch.Tensor
    parents: torch.Tensor


Both = dict[str, Answers]
"""By split."""


def of_run(folder: Path, data_dir: Path, work_dir: Path) -> Both:
    """What both heads of a merged run say; its own alphas are not asked."""
    classifier: Any = saved.load(folder).classifier
    found = {}
    for split in SPLITS:
        pictures = data.open_split(data_dir / "shards", work_dir / "cache", split)
        with torch.no_grad():
            batches = prediction.batches(pictures, torch.device("cpu"))
            said = list(zip(*(classifier.confidences(x) for x in batches), strict=True))
        coarse, fine = (torch.cat(parts) for parts in said)
        labels = torch.from_numpy(pictures.labels)
        found[split] = Answers(coarse, fine, labels, classifier.parents)
    return found


def of_flat(folder: Path, flat: Path) -> Both | None:
    """The flat network's labels and another run's categories; None where it has no partition."""
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
        split: Answers(
            coarse[splits == split], fine[splits == split], labels[splits == split], parents
        )
        for split in SPLITS
    }


def averaged(members: Iterable[Both]) -> Both:
    """An ensemble: the mean of the members' probabilities, each side of its own."""
    every = list(members)
    return {
        split: Answers(
            torch.stack([one[split].coarse for one in every]).mean(dim=0),
            torch.stack([one[split].fine for one in every]).mean(dim=0),
            every[0][split].labels,
            every[0][split].parents,
        )
        for split in SPLITS
    }


def measure(found: Both) -> dict[str, Any]:
    """Curves of both splits, the alphas that validation chooses, and the agreement on test."""
    curves = {split: _curve(one) for split, one in found.items()}
    alphas = dict(zip(LEVELS, adaptation.chosen(curves["val"]), strict=True))
    reached = {
        level: {str(alpha): getattr(_at(curves["test"], alpha), level) for alpha in (0.0, 1.0, 2.0)}
        | {"chosen": getattr(_at(curves["test"], alphas[level]), level)}
        for level in LEVELS
    }
    return {
        "alpha": alphas,
        "test": reached,
        "agreement": agreement(found["test"], alphas),
        "curves": {
            split: {name: [asdict(point)[name] for point in points] for name in LEVELS}
            for split, points in curves.items()
        },
    }


def tried(found: Answers, alphas: Mapping[str, float]) -> Tried:
    """Which images are right at every alpha, and the alphas that were chosen elsewhere."""
    truth = {"coarse": found.parents[found.labels], "fine": found.labels}
    right: dict[str, list[np.ndarray]] = {level: [] for level in LEVELS}
    for alpha in adaptation.GRID:
        sides = _adapted(found, dict.fromkeys(LEVELS, alpha))
        for level, side in zip(LEVELS, sides, strict=True):
            right[level].append((side.argmax(dim=1) == truth[level]).numpy())
    parents = tuple(found.parents.tolist())
    return Tried({level: np.stack(rows) for level, rows in right.items()}, alphas, parents)


def agreement(found: Answers, alphas: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """How far P_c and Q lie apart, and how often both name one category, before and after."""
    sides = (found.coarse, found.fine, found.parents)
    adapted = {
        "chosen": _adapted(found, alphas),
        "full": _adapted(found, {"coarse": 1.0, "fine": 1.0}),
    }
    result = {}
    for name, (coarse, fine) in {"none": sides[:2], **adapted}.items():
        same = coarse.argmax(dim=1) == found.parents[fine.argmax(dim=1)]
        apart = adaptation.disagreement(coarse, fine, found.parents)
        result[name] = {
            "mass_apart": float(apart.mean()),
            "same_category": float(same.double().mean()),
        }
    return result


def scatter(found: Answers, *, category: int = 0) -> dict[str, Any]:
    """Figure 1: P_c and Q of one category, for images of it and for others, in image order."""
    totals = adaptation.sums(found.fine, found.parents, categories=found.coarse.shape[1])
    inside = found.parents[found.labels] == category
    sides = {"P_c": found.coarse[:, category], "Q": totals[:, category]}
    return {"category": category} | {
        who: {name: side[rows][:POINTS].tolist() for name, side in sides.items()}
        for who, rows in (("members", inside), ("others", ~inside))
    }


def sizes(seeds: int) -> tuple[list[int], list[int]]:
    """Members of the ensembles that so many seeds allow, and of those of the paper they do not."""
    wanted = {*SIZES, 3} if seeds == 3 else set(SIZES)
    possible = sorted(size for size in wanted if 1 < size <= seeds)
    return possible, [size for size in SIZES if size > seeds]


def ensembles(members: Mapping[int, Both]) -> dict[str, Any]:
    """Every ensemble of so many seeds: averaged, then adapted; and adapted, then averaged."""
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
    """The ablation: each member is adapted with alphas of its own, and then the mean is taken."""
    rows = []
    for one in members:
        alphas = dict(zip(LEVELS, adaptation.chosen(_curve(one["val"])), strict=True))
        rows.append(_adapted(one["test"], alphas))
    coarse, fine = (torch.stack(side).mean(dim=0).argmax(dim=1) for side in zip(*rows, strict=True))
    labels, parents = members[0]["test"].labels, members[0]["test"].parents
    return {
        "coarse": float((coarse == parents[labels]).double().mean()),
        "fine": float((fine == labels).double().mean()),
    }


def _adapted(found: Answers, alphas: Mapping[str, float]) -> tuple[torch.Tensor, torch.Tensor]:
    sides = (found.coarse, found.fine, found.parents)
    return (
        adaptation.adapt_coarse(*sides, alpha=alphas["coarse"]),
        adaptation.adapt_fine(*sides, alpha=alphas["fine"]),
    )


def _curve(found: Answers) -> list[adaptation.AlphaAccuracy]:
    return adaptation.curve(found.coarse, found.fine, found.labels, found.parents)


def _at(points: list[adaptation.AlphaAccuracy], alpha: float) -> adaptation.AlphaAccuracy:
    return next(point for point in points if point.alpha == alpha)


def trained(results_dir: Path, runs: Mapping[str, Iterable[int]]) -> dict[str, Any]:
    """Seconds and operations of each run's training, the mean over seeds, beside separate ones."""
    found: dict[str, Any] = {}
    apart = None
    for name, seeds in runs.items():
        fits = [_fit(results_dir / name / str(seed)) for seed in seeds]
        means = {key: statistics.mean(fit[key] for fit in fits) for key in fits[0]}
        found[name] = means
        facts = files.read_json(results_dir / name / str(min(seeds)) / "model.json", stage="fit")
        apart = means if facts["params"]["merged"].get("separate") else apart
    if apart is not None:
        for means in list(found.values()):
            means["seconds_ratio"] = means["seconds"] / apart["seconds"]
            means["flops_ratio"] = means["train_flops"] / apart["train_flops"]
    return found


def _fit(folder: Path) -> dict[str, float]:
    facts = files.read_json(folder / "fit.json", stage="fit")
    flops = sum(network["train_flops"] for network in facts["networks"])
    return {"seconds": float(facts["total_seconds"]), "train_flops": float(flops)}


def _folders(results_dir: Path) -> dict[str, dict[str, dict[int, Path]]]:
    """Trained seeds of every run with a tree: by kind (merged, tree), run and seed."""
    found: dict[str, dict[str, dict[int, Path]]] = {"merged": {}, "tree": {}}
    for path in sorted(results_dir.glob("*/[0-9]*/model.json")):
        facts = json.loads(path.read_text())
        if facts["grouping"] is None:
            continue
        kind = "merged" if facts["method"] == "merged" else "tree"
        seeds = found[kind].setdefault(facts["run"], {})
        seeds[int(facts["seed"])] = path.parent
    return found


def measured(folders: Mapping[str, Mapping[int, Path]], **places: Path) -> dict[str, Any]:
    """Curves, ensembles, scatter and tests of merged runs; random groups have no rows between runs."""
    found: dict[str, Any] = {"runs": {}, "ensembles": {}, "ensembles_left_out": {}, "scatter": {}}
    tests: dict[str, dict[int, Tried]] = {}
    for name, seeds in folders.items():
        answers = {seed: of_run(path, **places) for seed, path in sorted(seeds.items())}
        rows = {seed: measure(one) for seed, one in answers.items()}
        tests[name] = {
            seed: tried(one["test"], rows[seed]["alpha"]) for seed, one in answers.items()
        }
        found["runs"][name] = rows
        found["ensembles"][name] = ensembles(answers)
        found["ensembles_left_out"][name] = left_out = sizes(len(answers))[1]
        found["scatter"][name] = scatter(answers[min(answers)]["test"])
        if left_out:
            log.info("%s: %d seeds, no ensembles of %s", name, len(answers), left_out)
    found["random"] = [name for name, seeds in folders.items() if _is_random(seeds)]
    free = [name for name, seeds in folders.items() if not _is_fixed(seeds)]
    found["tests"] = compared(tests, [name for name in free if name not in found["random"]])
    return found


def of_trees(
    folders: Mapping[str, Mapping[int, Path]], results_dir: Path
) -> dict[str, dict[int, Any]]:
    """The flat network of each seed with the categories of every tree that has a partition."""
    found = {}
    for name, seeds in folders.items():
        answers = {
            seed: of_flat(path, results_dir / "flat" / str(seed)) for seed, path in seeds.items()
        }
        rows = {seed: measure(one) for seed, one in sorted(answers.items()) if one is not None}
        for row in rows.values():
            del row["curves"]  # of merged networks alone: the file stays small
        if rows:
            found[name] = rows
    return found


def run(
    results_dir: Path = Path("results"),
    data_dir: Path = Path("data"),
    work_dir: Path = Path("work"),
) -> Result:
    """The median over merged runs and seeds of what adaptation adds to the labels' accuracy."""
    folders = _folders(results_dir)
    if all(_is_random(seeds) for seeds in folders["merged"].values()):
        raise SystemExit(
            "no run of method merged with told or found groups was trained: run `dvc repro`"
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
    """What the chosen alpha adds to the accuracy at 0, for every seed of the named runs."""
    rows = [row["test"][level] for name in names for row in runs[name].values()]
    return [row["chosen"] - row["0.0"] for row in rows]


def _is_random(seeds: Mapping[int, Path]) -> bool:
    return str(_facts(seeds)["grouping"]).startswith("random")


def _is_fixed(seeds: Mapping[int, Path]) -> bool:
    """Says whether the run was told an alpha: as a network it repeats another one."""
    own = _facts(seeds)["params"]["merged"]
    return any(own.get(f"alpha_{level}") is not None for level in LEVELS)


def _facts(seeds: Mapping[int, Path]) -> dict[str, Any]:
    return files.read_json(seeds[min(seeds)] / "model.json", stage="fit")


def _short(value: Any) -> Any:
    """The same document with every figure in a few digits: the file stays small."""
    if isinstance(value, dict):
        return {key: _short(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_short(one) for one in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
