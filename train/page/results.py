"""
Reads and checks what the stages above wrote: runs, seeds, groupings and data.

Takes results/RUN/SEED/*, data/clustering/SEED/*.json and data/shards/*.json. Gives frozen objects
that hold test images only, rows in the order of `post_id`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import networkx as nx
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Bool, Float, Int

from personae import files, tables
from personae.build.documents import LabelIndex, ShardIndex
from personae.build.index import read_index
from personae.errors import BadTable, MissingInput
from train.documents import (
    CostDocument,
    FitDocument,
    GroupingDocument,
    MetricsDocument,
    ModelDocument,
)
from train.engine import curves
from train.errors import MixedResults
from train.evaluation import stored
from train.tree.hierarchy import ROOT, Nested, from_json, leaves

FLAT = "flat"
REFERENCE = "modularity"  # the grouping whose clusters every run is measured against
UNGROUPED = "ungrouped"  # the key of the reason, where the labels have no grouping
GIVEN = "given"  # the tree that comes with the data, fixed before any network was trained
CONTROL = "random"
_FACTS = ("post_id", "split", "white_background", "label", "predicted")


class RunLike(Protocol):
    """The fields of an entry of section `runs` that the report reads."""

    @property
    def method(self) -> str:
        """The module in train/methods."""

    @property
    def grouping(self) -> str | None:
        """The file of data/clustering/SEED; None where there is no tree."""

    @property
    def like(self) -> str | None:
        """Of a control of equal cost, the run whose cost it aims at."""

    @property
    def equal(self) -> str | None:
        """The cost that is equal: train_flops, macs or params."""


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """
    One run with one seed, on the test images.

    `probabilities` are those of the default mode. `full` and `coarse` are probabilities over labels
    and over the run's own clusters; None for a run that has no hierarchy. `cost` is cost.json, empty where nothing was measured.
    """

    run: str
    seed: int
    post_id: Int[np.ndarray, " image"]
    label: Int[np.ndarray, " image"]
    predicted: Int[np.ndarray, " image"]
    white: Bool[np.ndarray, " image"]
    probabilities: Float[np.ndarray, "image leaf"]
    full: Float[np.ndarray, "image leaf"] | None
    coarse: Float[np.ndarray, "image cluster"] | None
    metrics: MetricsDocument
    fit: FitDocument
    model: ModelDocument
    curves: Sequence[Mapping[str, str]]
    cost: CostDocument | None = None
    """None where the run was evaluated without a measurement of its cost."""

    @property
    def hierarchy(self) -> nx.DiGraph:
        """The label hierarchy that the run was trained on."""
        return from_json(self.model.hierarchy.model_dump(mode="json", exclude_unset=True))

    @property
    def correct(self) -> Bool[np.ndarray, " image"]:
        """Says of each image whether the predicted label is the true label."""
        return np.asarray(self.label == self.predicted)


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """A method with a grouping, with every seed for which it was trained."""

    name: str
    method: str
    grouping: str | None
    seeds: Mapping[int, TrainedRun]
    like: str | None = None
    equal: str | None = None

    @property
    def first(self) -> TrainedRun:
        """The run with its first seed."""
        return next(iter(self.seeds.values()))

    def figure(self, name: str) -> tuple[float, ...] | None:
        """Returns a figure of metrics.json for each seed; None where a seed lacks it."""
        values = [getattr(trained.metrics, name) for trained in self.seeds.values()]
        return None if None in values else tuple(values)

    @property
    def is_control(self) -> bool:
        """Says whether the run has no clusters, or random ones."""
        return self.grouping is None or self.is_random

    @property
    def is_random(self) -> bool:
        """Says whether the clusters are random."""
        return self.grouping is not None and self.grouping.startswith(CONTROL)


@dataclass(frozen=True, slots=True)
class Grouping:
    """One file of data/clustering/SEED: its clusters as tuples of leaves, and the whole document."""

    name: str
    seed: int
    clusters: tuple[tuple[int, ...], ...]
    facts: Mapping[str, Any]

    @property
    def tree(self) -> Nested:
        """All levels of the tree; the clusters alone where the file holds no tree."""
        return self.facts.get("tree") or [list(cluster) for cluster in self.clusters]

    @property
    def ordered(self) -> tuple[tuple[int, ...], ...]:
        """The clusters, with their labels in the order of the tree."""
        return tuple(
            (child,) if isinstance(child, int) else tuple(leaves(child)) for child in self.tree
        )


@dataclass(frozen=True, slots=True)
class Results:
    """
    Everything that the report is made from. The first of `runs` is the flat run.

    `absent` lists runs, and seeds of runs, that were never trained; the report leaves them out.
    `ungrouped` maps runs, and seeds of runs, to the reason why their labels have no grouping: they
    are copies of the flat run, which the report leaves out too.
    """

    labels: tuple[str, ...]
    bases: Mapping[str, str | None]
    """The base form of each label that is a form of another label."""
    manifest: ShardIndex
    """Samples, labels and root hash are those of the selection, where the runs have one."""
    runs: tuple[ComparedRun, ...]
    groupings: Mapping[tuple[str, int], Grouping]
    absent: tuple[str, ...] = ()
    ungrouped: Mapping[str, str] = field(default_factory=dict)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, in the order given."""
        return tuple(self.flat.seeds)

    @property
    def flat(self) -> ComparedRun:
        """The baseline."""
        return self.runs[0]

    @property
    def white(self) -> Bool[np.ndarray, " image"]:
        """Says of each test image whether its background is white."""
        return self.flat.seeds[self.seeds[0]].white

    @property
    def test_labels(self) -> Int[np.ndarray, " image"]:
        """The true leaf of each test image."""
        return self.flat.seeds[self.seeds[0]].label

    @property
    def first_seeds(self) -> dict[str, int]:
        """The first seed of each run, by the run's name."""
        return {run.name: next(iter(run.seeds)) for run in self.runs}

    def reference(self, seed: int) -> Grouping:
        """The clusters against which every run of this seed is measured."""
        return self.groupings[REFERENCE, seed]

    def given(self, seed: int) -> Grouping | None:
        """The tree that comes with the data; None where the data has none."""
        return self.groupings.get((GIVEN, seed))

    def own(self, run: ComparedRun, seed: int) -> Grouping | None:
        """The clusters on which a run was built; None for a run without clusters."""
        return self.groupings[run.grouping, seed] if run.grouping else None


def read(
    *, data_dir: Path, results_dir: Path, runs: Mapping[str, RunLike], seeds: Sequence[int]
) -> Results:
    """
    Reads everything that the stages above wrote for `runs` and `seeds`.

    A run, or a seed of a run, without a folder was not trained yet: it is left out and listed in
    `Results.absent`.

    Raises:
        MissingInput: A file is absent or unreadable; the message names the stage that writes it.
        MixedResults: Two runs were evaluated on different images or labels.
    """
    shards_dir = data_dir / "shards"
    model = ModelDocument.read(results_dir / FLAT / str(seeds[0]) / "model.json", stage=FLAT)
    index = read_index(shards_dir, model.selection)
    bases = LabelIndex.read(shards_dir / "classes.json").base
    leaves = len(index.labels)
    flat = {seed: _trained(results_dir / FLAT / str(seed), FLAT, seed, leaves) for seed in seeds}
    read_runs = [ComparedRun(name=FLAT, method=FLAT, grouping=None, seeds=flat)]
    absent = []
    ungrouped: dict[str, str] = {}
    for name, entry in runs.items():
        trained = [seed for seed in seeds if (results_dir / name / str(seed)).is_dir()]
        missing = [str(seed) for seed in seeds if seed not in trained]
        if missing:
            absent.append(f"{name} (seed {', '.join(missing)})" if trained else name)
        reasons = {seed: _left_out(data_dir, entry.grouping, seed) for seed in trained}
        for seed in trained:
            if reasons[seed]:
                ungrouped[f"{name} seed {seed}"] = reasons[seed]
        trained = [seed for seed in trained if not reasons[seed]]
        if trained:
            read_runs.append(_run(results_dir, name, entry, trained, leaves=leaves))
    pairs = [(REFERENCE, seed) for seed in seeds]
    pairs += [(run.grouping, seed) for run in read_runs for seed in run.seeds if run.grouping]
    folder = data_dir / "clustering"
    pairs += [(GIVEN, seed) for seed in seeds if (folder / str(seed) / f"{GIVEN}.json").exists()]
    groupings = {
        (name, seed): _grouping(folder / str(seed) / f"{name}.json", name, seed, leaves=leaves)
        for name, seed in dict.fromkeys(pairs)
    }
    for run in read_runs:
        for seed, trained_run in run.seeds.items():
            trained_run.model.check_shards(
                index.labels, index.manifest.root_sha256, folder=results_dir / run.name / str(seed)
            )
    _check_same_images(read_runs)
    _check_partitions(groupings, leaves=leaves)
    return Results(
        labels=index.labels,
        bases={label: bases[label] for label in index.labels if label in bases},
        manifest=index.manifest,
        runs=tuple(read_runs),
        groupings=groupings,
        absent=tuple(absent),
        ungrouped=ungrouped,
    )


def _left_out(data_dir: Path, grouping: str | None, seed: int) -> str:
    """Returns why stage `clustering` left a grouping out; empty: it did not."""
    path = data_dir / "clustering" / str(seed) / "left_out.json"
    if grouping is None or not path.exists():
        return ""
    return str(files.read_json(path, stage="clustering").get(grouping, ""))


def _run(
    results_dir: Path, name: str, entry: RunLike, seeds: Sequence[int], *, leaves: int
) -> ComparedRun:
    trained = {seed: _trained(results_dir / name / str(seed), name, seed, leaves) for seed in seeds}
    return ComparedRun(name, entry.method, entry.grouping, trained, entry.like, entry.equal)


def _trained(folder: Path, run: str, seed: int, leaves: int) -> TrainedRun:
    path = folder / "predictions.parquet"
    tables.check(path, (), stage="evaluate")
    present = pq.read_schema(path).names
    lists = ["probabilities", *(name for name in ("full", "coarse") if name in present)]
    table = stored.read(path, _FACTS, lists, stage="evaluate")
    table = table.filter(pc.field("split") == "test").sort_by("post_id")
    if not len(table):
        raise MissingInput(f"{path} holds no test images: run stage 'evaluate' again.")
    label, predicted = (table[name].to_numpy() for name in ("label", "predicted"))
    if max(label.max(), predicted.max()) >= leaves or min(label.min(), predicted.min()) < 0:
        raise MixedResults(
            f"{path} refers to leaf {max(label.max(), predicted.max())}, but the shards hold "
            f"{leaves} labels: it was made from other shards. Run `dvc repro`."
        )
    measured = folder / "cost.json"
    model = ModelDocument.read(folder / "model.json")
    matrix = partial(stored.matrix, table, path=path, stage="evaluate")
    probabilities = matrix("probabilities", columns=leaves)
    if probabilities is None:
        raise BadTable(
            f"Column 'probabilities' of {path} has empty rows. Run stage 'evaluate' again."
        )
    clusters = sum(parent == ROOT for parent, _, _ in model.hierarchy.edges)
    return TrainedRun(
        run=run,
        seed=seed,
        post_id=table["post_id"].to_numpy(),
        label=label.astype(np.int64),
        predicted=predicted.astype(np.int64),
        white=table["white_background"].to_numpy(zero_copy_only=False),
        probabilities=probabilities,
        full=matrix("full", columns=leaves),
        coarse=matrix("coarse", columns=clusters),
        metrics=MetricsDocument.read(folder / "metrics.json"),
        fit=FitDocument.read(folder / "fit.json"),
        model=model,
        curves=curves.read_csv(folder / "curves.csv"),
        cost=CostDocument.read(measured) if measured.exists() else None,
    )


def _grouping(path: Path, name: str, seed: int, *, leaves: int) -> Grouping:
    """Returns a grouping; one group of all labels, with the reason, where nothing can be grouped."""
    left_out = path.with_name("left_out.json")
    if not path.exists() and left_out.exists():
        reasons = files.read_json(left_out, stage="clustering")
        if {REFERENCE, name} <= reasons.keys():  # without the reference there is no grouping at all
            facts = {"sweep": [], UNGROUPED: reasons[name]}
            return Grouping(name, seed, (tuple(range(leaves)),), facts)
    document = GroupingDocument.read(path)
    facts = document.model_dump(mode="json")
    return Grouping(name=name, seed=seed, clusters=document.clusters, facts=facts)


def _check_same_images(runs: Sequence[ComparedRun]) -> None:
    first = next(iter(runs[0].seeds.values()))
    for run in runs:
        for trained in run.seeds.values():
            if not np.array_equal(first.post_id, trained.post_id) or not np.array_equal(
                first.label, trained.label
            ):
                raise MixedResults(
                    f"Run '{trained.run}' with seed {trained.seed} was evaluated on "
                    f"{len(trained.post_id)} test images that are not the {len(first.post_id)} "
                    f"of '{first.run}' with seed {first.seed}: a paired comparison needs the same. "
                    "Run `dvc repro`."
                )


def _check_partitions(groupings: Mapping[tuple[str, int], Grouping], *, leaves: int) -> None:
    for (name, seed), grouping in groupings.items():
        if sorted(leaf for cluster in grouping.clusters for leaf in cluster) != [*range(leaves)]:
            raise MixedResults(
                f"Grouping '{name}' of seed {seed} does not hold each of the {leaves} labels of "
                "the shards once: it was made from other shards. Run `dvc repro`."
            )
