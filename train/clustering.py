"""
Stage `clustering`: confusions on the validation pictures to one hierarchy per grouping rule.

Reads results/flat/SEED/validation.parquet, model.json and data/shards/classes.json; writes
data/clustering/SEED/GROUPING.json. `modularity` follows Newman's leading eigenvector (2006) with a sweep of the resolution; `random` is
its control: the same cluster sizes, labels drawn by the seed (methods.md 2.2, 2.3, 7.3). `given`
is the data's own: labels of one copyright (work, family, coarse label), where it tells groups.
"""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field

from train import tables
from train.components import hierarchy, metrics
from train.errors import BadHierarchy, MissingInput

log = logging.getLogger(__name__)

Partition = list[list[int]]
_ZERO = 1e-10  # smaller entries of an eigenvector, degrees and gains count as none (methods.md 2.3)


class Params(BaseModel):
    """Section `clustering`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    confusion: Literal["counts", "soft"] = Field(
        "counts",
        description="counts of predicted labels (the report), or soft: mean predicted "
        "probabilities, which say more when a label has few validation pictures",
    )
    diagonal: bool = Field(
        False, description="keep the diagonal of the confusion; right answers say nothing of groups"
    )
    gamma_first: float = Field(
        2.0, gt=0, le=10, description="first resolution of the sweep; high means small clusters"
    )
    gamma_last: float = Field(0.1, gt=0, le=10, description="last resolution of the sweep")
    gamma_step: float = Field(0.1, gt=0, le=1, description="distance between two resolutions")
    largest: float = Field(
        0.5, gt=0, le=1, description="largest share of the labels in one cluster: no giant"
    )
    bootstrap: int = Field(
        100, ge=0, le=10_000, description="resamples of the validation pictures for the stability"
    )


@dataclass(frozen=True, slots=True)
class Candidate:
    """The partition of one resolution, with what speaks for and against it."""

    gamma: float
    clusters: Partition
    micp: float
    excess: float
    """MICP above that of random clusters of the same sizes: what the sweep maximises."""
    modularity: float
    refused: str | None
    """Why it may not be selected; None if it may."""


def affinity(
    confusion: Float[np.ndarray, "label label"], *, diagonal: bool = False
) -> Float[np.ndarray, "label label"]:
    """Returns A = (M + M^T)/2, without its diagonal unless asked: self-loops swamp the degrees."""
    result = (confusion + confusion.T) / 2
    if not diagonal:
        np.fill_diagonal(result, 0.0)
    return np.asarray(result)


def communities(weights: Float[np.ndarray, "label label"], *, gamma: float) -> Partition:
    """
    Returns the clusters of a symmetric, non-negative weight matrix at resolution `gamma`.

    Groups are split in two by the leading eigenvector of their modularity matrix and refined, as
    long as modularity gains (Newman 2006, eq. 2 to 6). Labels without any weight stand alone.
    Clusters are sorted inside and ordered by their smallest label.

    Differs:
        gamma scales the null model (Reichardt and Bornholdt 2006); the paper has gamma = 1.
    """
    degrees = weights.sum(axis=1)
    connected = np.flatnonzero(degrees > _ZERO)
    found: Partition = [[int(label)] for label in np.flatnonzero(degrees <= _ZERO)]
    if len(connected):
        surplus = modularity_matrix(weights, gamma=gamma)
        groups = [connected]
        while groups:
            group = groups.pop()
            sides = bisect(surplus, group, total=float(degrees.sum()))
            if sides is None:
                found.append(sorted(int(label) for label in group))
            else:
                groups += sides
    return sorted(found)


def modularity_matrix(
    weights: Float[np.ndarray, "label label"], *, gamma: float
) -> Float[np.ndarray, "label label"]:
    """Returns B = A - gamma k k^T / 2m; zero where nothing is connected."""
    degrees = weights.sum(axis=1)
    total = degrees.sum()
    if total <= _ZERO:
        return np.zeros_like(weights)
    return np.asarray(weights - gamma * np.outer(degrees, degrees) / total)


def modularity(
    surplus: Float[np.ndarray, "label label"], clusters: Partition, total: float
) -> float:
    """Returns Q = (1/2m) sum over clusters of their block of B; `total` is 2m. Zero without edges."""
    inside = sum(surplus[np.ix_(group, group)].sum() for group in clusters)
    return float(inside / total) if total > _ZERO else 0.0


def bisect(
    surplus: Float[np.ndarray, "label label"], group: Int[np.ndarray, " member"], *, total: float
) -> list[np.ndarray] | None:
    """
    Returns the two sides of the best division of `group`, or None if none gains modularity.

    With Bg_ij = B_ij - delta_ij sum_l B_il over the group, s the signs of its leading eigenvector:
    dQ = s^T Bg s / (2 * 2m), `total` being 2m (methods.md 2.3). The eigenvector's largest entry is
    made positive, and entries below 1e-10 count as positive, so that every machine agrees.
    """
    block = surplus[np.ix_(group, group)]
    block = block - np.diag(block.sum(axis=1))
    signs = refine(block, _signs(leading_vector(block)))
    gain = float(signs @ block @ signs) / (2 * total)
    if gain <= _ZERO or abs(signs.sum()) == len(signs):
        return None
    return [group[signs > 0], group[signs < 0]]


def leading_vector(block: Float[np.ndarray, "member member"]) -> Float[np.ndarray, " member"]:
    """Returns the eigenvector of the largest eigenvalue, its largest entry positive."""
    vector = np.linalg.eigh(block)[1][:, -1]
    return np.asarray(vector * np.sign(vector[np.argmax(np.abs(vector))]))


def refine(
    block: Float[np.ndarray, "member member"], signs: Float[np.ndarray, " member"]
) -> Float[np.ndarray, " member"]:
    """
    Returns signs that no pass of Kernighan and Lin's can better (Newman 2006, "refinement").

    A pass flips every member once, each time the one that gains most (ties: the first), and keeps
    the best prefix of the flips. Flipping i changes s^T Bg s by 4 (Bg_ii - s_i (Bg s)_i).
    """
    while True:
        trial, free = signs.copy(), np.ones(len(signs), dtype=bool)
        gains, flipped = [], []
        for _ in signs:
            change = 4 * (np.diag(block) - trial * (block @ trial))
            best = int(np.argmax(np.where(free, change, -np.inf)))
            trial[best] *= -1
            free[best] = False
            gains.append(float(change[best]))
            flipped.append(best)
        running = np.cumsum(gains)
        kept = int(np.argmax(running))
        if running[kept] <= _ZERO:
            return signs
        signs = signs.copy()
        signs[flipped[: kept + 1]] *= -1


def sweep(confusion: Float[np.ndarray, "label label"], params: Params) -> list[Candidate]:
    """Returns one candidate per resolution, from the finest to the coarsest."""
    weights = affinity(confusion, diagonal=params.diagonal)
    total, labels = float(weights.sum()), len(weights)
    steps = round((params.gamma_first - params.gamma_last) / params.gamma_step)
    candidates = []
    for step in range(steps + 1):
        gamma = round(params.gamma_first - step * params.gamma_step, 6)
        clusters = communities(weights, gamma=gamma)
        candidates.append(
            Candidate(
                gamma=gamma,
                clusters=clusters,
                micp=metrics.micp(confusion, clusters),
                excess=metrics.micp_excess(confusion, clusters),
                modularity=modularity(modularity_matrix(weights, gamma=gamma), clusters, total),
                refused=_refusal(clusters, labels, largest=params.largest),
            )
        )
    return candidates


def select(candidates: Sequence[Candidate]) -> Candidate:
    """
    Returns the allowed candidate of largest excess; ties go to the larger gamma.

    If every one is refused, the best that still groups something stands in.

    Raises:
        BadHierarchy: No resolution gives at least two clusters with two labels in one of them.
    """
    allowed = [one for one in candidates if one.refused is None]
    if not allowed:
        allowed = [one for one in candidates if 1 < len(one.clusters) < _labels(one)]
        if allowed:
            log.warning("every partition of the sweep is refused; the best of them stands in")
    if not allowed:
        sizes = sorted({len(one.clusters) for one in candidates})
        raise BadHierarchy(
            f"No grouping of {_labels(candidates[0])} labels was found: the sweep gives {sizes} "
            "clusters only. The validation pictures show too few confusions (or all labels "
            "alike); take more of them, clustering.confusion: soft, or another range of gamma."
        )
    return max(allowed, key=lambda one: (round(one.excess, 12), one.gamma))


def shuffled(clusters: Partition, *, seed: int) -> Partition:
    """Returns random clusters of the same sizes: the control of methods.md 7.3."""
    order = np.random.default_rng([seed, 73]).permutation(sum(map(len, clusters))).tolist()
    result, start = [], 0
    for cluster in clusters:
        result.append(sorted(order[start : start + len(cluster)]))
        start += len(cluster)
    return sorted(result)


def families(names: Sequence[str], family_of: Mapping[str, str | None]) -> Partition | None:
    """
    Returns the labels of each family as clusters; one without a family stands alone.

    None where that groups nothing: fewer than two clusters, or as many as labels.
    """
    found: dict[str, list[int]] = {}
    for leaf, name in enumerate(names):
        family = family_of.get(name)
        found.setdefault(f"label {name}" if family is None else f"family {family}", []).append(leaf)
    return sorted(found.values()) if 1 < len(found) < len(names) else None


def stability(
    labels: Int[np.ndarray, " image"],
    predicted: Int[np.ndarray, " image"],
    probabilities: Float[np.ndarray, "image label"],
    *,
    chosen: Partition,
    params: Params,
    seed: int,
) -> float | None:
    """
    Returns the mean adjusted Rand index between `chosen` and the partitions of resampled pictures.

    A resample in which nothing can be grouped counts as all labels apart. None if not asked for.
    """
    if not params.bootstrap:
        return None
    rng = np.random.default_rng([seed, 23])
    reference = hierarchy.parents(chosen)
    indices = []
    for _ in range(params.bootstrap):
        rows = rng.integers(len(labels), size=len(labels))
        matrix = confusion_of(labels[rows], predicted[rows], probabilities[rows], params=params)
        try:
            other = select(sweep(matrix, params)).clusters
        except BadHierarchy:
            other = [[label] for label in range(len(reference))]
        indices.append(metrics.adjusted_rand(reference, hierarchy.parents(other)))
    return float(np.mean(indices))


def confusion_of(
    labels: Int[np.ndarray, " image"],
    predicted: Int[np.ndarray, " image"],
    probabilities: Float[np.ndarray, "image label"],
    *,
    params: Params,
) -> Float[np.ndarray, "label label"]:
    """Returns M, from counts or from mean probabilities."""
    if params.confusion == "soft":
        return metrics.normalise_rows(metrics.soft_confusion(probabilities, labels))
    leaves = probabilities.shape[1]
    return metrics.normalise_rows(metrics.confusion_counts(labels, predicted, leaves=leaves))


def run(params: Params, *, data_dir: Path, results_dir: Path, seed: int) -> Path:
    """Clusters the labels of the flat network of this seed; returns the folder written."""
    source = results_dir / "flat" / str(seed)
    names = _label_names(source / "model.json")
    columns = ["label", "predicted", "probabilities"]
    table = tables.read(source / "validation.parquet", columns, stage="flat")
    own = families(names, _family_of(data_dir / "shards" / "classes.json"))
    labels = table["label"].to_numpy().astype(np.int64)
    predicted = table["predicted"].to_numpy().astype(np.int64)
    probabilities = np.array(table["probabilities"].to_pylist(), dtype=np.float64)
    confusion = confusion_of(labels, predicted, probabilities, params=params)

    candidates = sweep(confusion, params)
    chosen = select(candidates)
    stable = stability(
        labels, predicted, probabilities, chosen=chosen.clusters, params=params, seed=seed
    )
    folder = data_dir / "clustering" / str(seed)
    rows = [
        {
            "gamma": one.gamma,
            "clusters": one.clusters,
            "micp": one.micp,
            "excess": one.excess,
            "selected": one is chosen,
            "refused": one.refused,
        }
        for one in candidates
    ]
    common = {"labels": names, "seed": seed, "params": params.model_dump()}
    found = {"gamma": chosen.gamma, "stability": stable, "sweep": rows}
    _write(folder, "modularity", _figures(confusion, chosen.clusters, params) | common | found)
    control: dict[str, Any] = {"gamma": None, "stability": None, "sweep": []}
    drawn = shuffled(chosen.clusters, seed=seed)
    _write(folder, "random", _figures(confusion, drawn, params) | common | control)
    if own is not None:
        _write(folder, "given", _figures(confusion, own, params) | common | control)
    log.info(
        "clustering: %d pictures, %d labels in %d clusters at gamma %.1f, excess %.4f, stability %s",
        len(labels), len(names), len(chosen.clusters), chosen.gamma, chosen.excess, stable,
    )  # fmt: skip
    return folder


def _figures(
    confusion: Float[np.ndarray, "label label"], clusters: Partition, params: Params
) -> dict[str, Any]:
    weights = affinity(confusion, diagonal=params.diagonal)
    surplus = modularity_matrix(weights, gamma=1.0)
    return {
        "clusters": clusters,
        "modularity": modularity(surplus, clusters, float(weights.sum())),
        "micp": metrics.micp(confusion, clusters),
        "micp_random": metrics.micp_random(confusion, [len(group) for group in clusters]),
        "excess": metrics.micp_excess(confusion, clusters),
        "accuracy": float(np.mean(np.diag(confusion))),
    }


def _refusal(clusters: Partition, labels: int, *, largest: float) -> str | None:
    if len(clusters) < 2:
        return "one_cluster"
    if len(clusters) > labels / 2:
        return "too_many_clusters"
    if max(map(len, clusters)) > largest * labels:
        return "giant_cluster"
    return None


def _signs(vector: np.ndarray) -> np.ndarray:
    return np.where(vector > -_ZERO, 1.0, -1.0)


def _labels(candidate: Candidate) -> int:
    return sum(map(len, candidate.clusters))


def _label_names(path: Path) -> list[str]:
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["labels"])
    except (OSError, ValueError, KeyError) as error:
        raise MissingInput(
            f"{path} is absent or names no labels ({error!r}). Stage 'flat' writes it: run it first."
        ) from error


def _family_of(path: Path) -> dict[str, str | None]:
    """Copyright of each label, as the data set tells; empty where it tells none."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")).get("copyright", {}))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise MissingInput(
            f"{path} is absent or names no labels ({error!r}). Stage 'shards' writes it: run it "
            "first."
        ) from error


def _write(folder: Path, grouping: str, document: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{grouping}.json"
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        json.dump({"grouping": grouping} | document, file, indent=1, sort_keys=True)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
