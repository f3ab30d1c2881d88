"""
Stage `clustering`: confusions on the validation images to one hierarchy per grouping rule.

Reads results/flat/SEED/validation.parquet, model.json and data/shards/classes.json; writes
data/clustering/SEED/GROUPING.{json,dot}. Each rule is a file of `components/grouping`; `given` is the
data's own or a user's file; the `random` ones are controls of the same shape, labels drawn by the
seed (methods.md 2.2, 2.3, 5.2, 6.3, 7.3).
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from threadpoolctl import threadpool_limits

from personae.errors import BadParams, MissingInput
from train.errors import BadHierarchy
from train.evaluation import metrics
from train.grouping import (
    agglomerative,
    average_linkage,
    document,
    eigenmap,
    given,
    laplacian,
    modularity,
    overlap,
    spectral,
)
from train.grouping.answers import Answers, confusion_of, read_answers
from train.grouping.partition import Partition, affinity, must_group, shuffled
from train.tree import hierarchy
from train.tree.hierarchy import Nested

log = logging.getLogger(__name__)

_MAIN = "modularity"  # the stage fails without it; K and the controls are of its clusters
_COVER = "hdcnn"  # label sets that overlap
_RESAMPLING = 23  # keys that keep the seed's random streams apart
_CONTROL = 73
_COPIED = {
    "given": 3,
    "average_linkage": 4,
    "bisection": 5,
    "dendrogram": 7,
    "given_deep": 8,
}  # groupings with a control of their own


class Params(BaseModel):
    """Section `clustering`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    confusion: Literal["counts", "soft"] = Field(
        "counts",
        description="counts of predicted labels (the report), or soft: mean predicted "
        "probabilities, which say more when a label has few validation images",
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
    g_max: int | None = Field(
        None,
        ge=1,
        description="labels in a group of average_linkage at most; none: half of the labels, as "
        "HierNet's 50 of 100",
    )
    p_min: float | None = Field(
        None,
        ge=-1,
        le=2,
        description="groups of average_linkage merge above this proximity (HierNet 0.0075 with "
        "ReLU, 0.005 with ELU); none: the one whose groups are nearest in number to groups_wanted",
    )
    groups_wanted: int | None = Field(
        None,
        ge=2,
        description="number of groups that p_min is chosen for; none: square root of the labels, "
        "near HierNet's 6 to 8 of 100",
    )
    clusters: int | None = Field(
        None,
        ge=2,
        description="clusters of spectral, agglomerative and the lower level of dendrogram; none: "
        "as many as modularity found",
    )
    given: Path | None = Field(
        None,
        description="JSON or DOT file with the tree of grouping `given`, by label names; none: the "
        "families that the data set tells. After editing it: dvc repro --force -s clustering",
    )
    neighbours: int | None = Field(
        None,
        ge=1,
        description="nearest labels that hdcnn's graph joins a label with; none: half the square "
        "root of the labels, HD-CNN's 5 of 100",
    )
    overlap: float = Field(
        5.0,
        gt=0,
        le=1e6,
        description="gamma of HD-CNN: a label joins each of K sets for whose "
        "labels its images are taken with a mean probability of 1 / (gamma K); more overlaps more",
    )
    overlap_largest: float = Field(
        0.8, gt=0, le=1, description="share of the labels to which overlap grows a set at most"
    )
    bootstrap: int = Field(
        100, ge=0, le=10_000, description="resamples of the validation images for the stability"
    )

    def gammas(self) -> list[float]:
        """Returns the resolutions of the sweep, from the finest to the coarsest."""
        return modularity.resolutions(self.gamma_first, self.gamma_last, self.gamma_step)


@dataclass(frozen=True, slots=True)
class Found:
    """A grouping, with the parameters that a sweep chose for it."""

    tree: Nested
    cover: list[list[int]] | None = None
    gamma: float | None = None
    p_min: float | None = None
    sweep: list[dict[str, Any]] = field(default_factory=list)

    @property
    def clusters(self) -> Partition:
        """The partition at the root."""
        return hierarchy.clusters(hierarchy.from_nested(self.tree, self.labels))

    @property
    def labels(self) -> int:
        """How many labels are grouped."""
        return len(hierarchy.leaves(self.tree))


Rule = Callable[[Answers], Found]


def run(params: Params, *, data_dir: Path, results_dir: Path, seed: int) -> Path:
    """Groups the labels of the flat network of this seed; returns the folder written."""
    source = results_dir / "flat" / str(seed)
    names = _label_names(source / "model.json")
    answers = read_answers(source / "validation.parquet")
    own = _family_of(data_dir / "shards" / "classes.json")
    told, reasons = _told(params, names, own)
    # Several threads on matrices of a hundred labels wait for one another: ten times slower beside
    # a training. And one thread adds in one order, whatever the machine.
    with threadpool_limits(1):
        found, rules, left_out = _search(params, answers)
        stable = stability(rules, found, answers, resamples=params.bootstrap, seed=seed)
        deeper, unjoined = _deeper(params, told, answers)
    told |= deeper
    controls = _controls(found | told, seed=seed)

    confusion = confusion_of(answers, params.confusion)
    common = {"labels": names, "seed": seed, "params": params.model_dump(mode="json")}
    written = {
        name: _figures(confusion, one, params) | common | {"stability": stable.get(name)}
        for name, one in (found | told | controls).items()
    }
    folder = data_dir / "clustering" / str(seed)
    left_out |= reasons | unjoined
    copies = {f"random_{name}": name for name in (*_COPIED, _COVER)} | {
        f"{_COVER}_disjoint": _COVER
    }
    left_out |= {copy: left_out[name] for copy, name in copies.items() if name in left_out}
    document.write(folder, written, left_out)
    for name, one in written.items():
        log.info(
            "clustering: %s, %d labels in %d clusters, excess %.4f, stability %s",
            name,
            len(names),
            len(one["clusters"]),
            one["excess"],
            one["stability"],
        )
    return folder


def _search(
    params: Params, answers: Answers
) -> tuple[dict[str, Found], dict[str, Rule], dict[str, str]]:
    """What each rule finds, the rules that found something, and why others did not."""
    main = _swept(answers, params, modularity.leading)
    rules = _rules(params, clusters=params.clusters or len(main.clusters))
    found: dict[str, Found] = {}
    left_out: dict[str, str] = {}
    for name, rule in rules.items():
        try:
            found[name] = main if name == _MAIN else rule(answers)
        except BadHierarchy as error:
            left_out[name] = str(error)
            log.warning("clustering: %s is left out. %s", name, error)
    return found, {name: rules[name] for name in found}, left_out


def _rules(params: Params, *, clusters: int) -> dict[str, Rule]:
    def weights(answers: Answers) -> Float[np.ndarray, "label label"]:
        return affinity(confusion_of(answers, params.confusion))

    return {
        _MAIN: lambda answers: _swept(answers, params, modularity.leading),
        "bisection": lambda answers: _plain(
            modularity.bisection(
                affinity(confusion_of(answers, params.confusion), diagonal=params.diagonal)
            )
        ),
        "laplacian": lambda answers: _swept(answers, params, laplacian.propose),
        "average_linkage": lambda answers: _linked(answers, params),
        "spectral": lambda answers: _plain(spectral.groups(weights(answers), clusters=clusters)),
        "agglomerative": lambda answers: _plain(
            agglomerative.groups(weights(answers), clusters=clusters)
        ),
        "dendrogram": lambda answers: Found(
            agglomerative.cut_twice(weights(answers), clusters=clusters)
        ),
        _COVER: lambda answers: _overlapping(
            answers,
            params,
            eigenmap.groups(weights(answers), neighbours=_neighbours(params, answers)),
        ),
        "hdcnn_spectral": lambda answers: _overlapping(
            answers, params, spectral.groups(weights(answers), clusters=clusters)
        ),
    }


def _swept(answers: Answers, params: Params, propose: modularity.Propose) -> Found:
    candidates = modularity.sweep(
        confusion_of(answers, params.confusion),
        gammas=params.gammas(),
        largest=params.largest,
        diagonal=params.diagonal,
        propose=propose,
    )
    chosen = modularity.select(candidates)
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
    return Found(_nested(chosen.clusters), gamma=chosen.gamma, sweep=rows)


def _linked(answers: Answers, params: Params) -> Found:
    """HierNet groups by probabilities, whatever `clustering.confusion` says."""
    cpm = confusion_of(answers, "soft")
    g_max = params.g_max or max(len(cpm) // 2, 1)
    if params.p_min is None:
        wanted = params.groups_wanted or round(len(cpm) ** 0.5)
        p_min, clusters = average_linkage.swept(cpm, g_max=g_max, wanted=wanted)
    else:
        p_min, clusters = params.p_min, average_linkage.groups(cpm, g_max=g_max, p_min=params.p_min)
        must_group(clusters, remedy="Set clustering.p_min to null, or to another proximity.")
    return Found(_nested(clusters), p_min=p_min)


def _overlapping(answers: Answers, params: Params, clusters: Partition) -> Found:
    """HD-CNN overlaps by probabilities, whatever `clustering.confusion` says."""
    cover = overlap.grown(
        clusters,
        confusion_of(answers, "soft"),
        gamma=params.overlap,
        largest=params.overlap_largest,
    )
    return Found(_nested(clusters), cover=cover)


def _neighbours(params: Params, answers: Answers) -> int:
    return params.neighbours or max(1, round(answers.probabilities.shape[1] ** 0.5 / 2))


def _plain(clusters: Partition) -> Found:
    return Found(_nested(clusters))


def _nested(clusters: Partition) -> Nested:
    return [list(cluster) for cluster in clusters]


def _told(
    params: Params, names: list[str], family_of: Mapping[str, str | None]
) -> tuple[dict[str, Found], dict[str, str]]:
    """The grouping `given`, or why there is none; a file that says nothing usable is an error."""
    if params.given is not None:
        return {"given": Found(given.read(params.given, names))}, {}
    try:
        return {"given": _plain(given.families(names, family_of))}, {}
    except BadHierarchy as error:
        log.info("clustering: given is left out. %s", error)
        return {}, {"given": str(error)}


def _deeper(
    params: Params, told: Mapping[str, Found], answers: Answers
) -> tuple[dict[str, Found], dict[str, str]]:
    """The grouping `given_deep`: groups of the told ones, or why there are none."""
    if "given" not in told:
        return {}, {"given_deep": "No grouping is told, so that none lies above one."}
    try:
        weights = affinity(confusion_of(answers, params.confusion))
        return {"given_deep": Found(agglomerative.above(weights, told["given"].clusters))}, {}
    except BadHierarchy as error:
        log.info("clustering: given_deep is left out. %s", error)
        return {}, {"given_deep": str(error)}


def _controls(found: Mapping[str, Found], *, seed: int) -> dict[str, Found]:
    """
    Random groupings: three of the sizes of modularity's clusters, one of each other shape.

    The cover of HD-CNN also loses its overlap.
    """
    main = found[_MAIN].tree
    drawn = {
        "random": shuffled(main, key=[seed, _CONTROL]),
        "random_1": shuffled(main, key=[seed, _CONTROL, 1]),
        "random_2": shuffled(main, key=[seed, _CONTROL, 2]),
    }
    for name, key in _COPIED.items():
        if name in found:
            drawn[f"random_{name}"] = shuffled(found[name].tree, key=[seed, _CONTROL, key])
    result = {name: Found(tree) for name, tree in drawn.items()}
    if _COVER in found:
        one = found[_COVER]
        clusters, cover = overlap.permuted(one.clusters, one.cover or [], key=[seed, _CONTROL, 6])
        result[f"random_{_COVER}"] = Found(_nested(clusters), cover=cover)
        result[f"{_COVER}_disjoint"] = Found(one.tree)
    return result


def stability(
    rules: Mapping[str, Rule],
    found: Mapping[str, Found],
    answers: Answers,
    *,
    resamples: int,
    seed: int,
) -> dict[str, float]:
    """
    Returns each rule's mean adjusted Rand index between `found` and resampled images.

    All rules see the same resamples. One in which a rule finds nothing counts as all labels
    apart. Empty without resamples.
    """
    rng = np.random.default_rng([seed, _RESAMPLING])
    indices: dict[str, list[float]] = {}
    for _ in range(resamples):
        drawn = answers.drawn(rng.integers(len(answers.labels), size=len(answers.labels)))
        for name, rule in rules.items():
            reference = hierarchy.parents(found[name].clusters)
            try:
                other = rule(drawn).clusters
            except BadHierarchy:
                other = [[label] for label in range(len(reference))]
            index = metrics.adjusted_rand(reference, hierarchy.parents(other))
            indices.setdefault(name, []).append(index)
    return {name: float(np.mean(values)) for name, values in indices.items()}


def _figures(
    confusion: Float[np.ndarray, "label label"], found: Found, params: Params
) -> dict[str, Any]:
    weights, clusters = affinity(confusion, diagonal=params.diagonal), found.clusters
    surplus = modularity.modularity_matrix(weights, gamma=1.0)
    return {
        "clusters": clusters,
        "tree": found.tree,
        "cover": found.cover,
        "gamma": found.gamma,
        "p_min": found.p_min,
        "sweep": found.sweep,
        "modularity": modularity.modularity(surplus, clusters, float(weights.sum())),
        "micp": metrics.micp(confusion, clusters),
        "micp_random": metrics.micp_random(confusion, [len(group) for group in clusters]),
        "excess": metrics.micp_excess(confusion, clusters),
        "accuracy": float(np.mean(np.diag(confusion))),
    }


def _label_names(path: Path) -> list[str]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        labels = list(facts["labels"])
    except (OSError, ValueError, KeyError) as error:
        raise MissingInput(
            f"{path} is absent or names no labels ({error!r}). Stage 'flat' writes it: run it first."
        ) from error
    if facts.get("params", {}).get("data", {}).get("train_on_val"):
        raise BadParams(
            f"{path.parent} was trained on its validation images (data.train_on_val), so its "
            "mistakes on them tell nothing of its confusions. Group first, without it."
        )
    return labels


def _family_of(path: Path) -> dict[str, str | None]:
    """Copyright of each label, as the data set tells; empty where it tells none."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")).get("copyright", {}))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise MissingInput(
            f"{path} is absent or names no labels ({error!r}). Stage 'shards' writes it: run it "
            "first."
        ) from error
