"""
Cost and accuracy of extending a tree by a label and of merging two trees, compared with new training.

Run after `dvc repro` with the preset demo: reads data/shards and params.yaml, and removes labels in
memory. Clusters are the demo's families, so that the rule that predicts clusters has no influence.
Every seed removes another label. Accuracies are those of test images. FLOPs are estimates, and
include the flat network that a tree starts from.
"""

import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.shared.result import Result
from personae.settings import Settings
from scraper.demo.facts.personae import PERSONAE
from train import backbone, extend, fit, merge, saved
from train.classifier import FitReport, HierarchicalClassifier
from train.data import augment, images
from train.data.images import DataModule, ImageSet, channel_mean, open_data, open_split
from train.engine import loop
from train.engine.trainer import Trainer
from train.evaluation import metrics, prediction
from train.methods import METHODS
from train.runtime import checkpoint, seeds
from train.tree import hierarchy

SEEDS = (0, 1, 2)
SHARDS, CACHE, PARAMS = Path("data/shards"), Path("work/cache"), Path("params.yaml")
FAMILY = {persona.name: persona.family for persona in PERSONAE}


@dataclass(frozen=True, slots=True)
class Bench:
    """Inputs that all trainings of one seed share."""

    settings: fit.RunSettings
    device: torch.device
    everything: DataModule
    test: ImageSet
    work_dir: Path
    seed: int

    def trainer(self, mean: np.ndarray, name: str) -> Trainer:
        """Returns a trainer with a folder of its own for checkpoints."""
        settings = self.settings
        return Trainer(
            settings.loop,
            settings.augment,
            settings.data.batch_size,
            torch.from_numpy(mean).to(self.device),
            self.device,
            self.work_dir / name,
        )

    def only(self, names: Sequence[str]) -> DataModule:
        """Returns the training and validation images of some labels, in the order of the shards."""
        whole = self.everything
        leaves = [leaf for leaf, name in enumerate(whole.labels) if name in names]
        return DataModule(
            tuple(whole.labels[leaf] for leaf in leaves),
            whole.side,
            whole.root_sha256,
            _only(whole.train, leaves),
            _only(whole.val, leaves),
        )

    def predicted(self, classifier: HierarchicalClassifier, known: Sequence[str]) -> np.ndarray:
        """Returns the predicted label of every test image, as a leaf of the whole set."""
        outputs = prediction.predict(classifier, self.test, device=self.device)
        leaves = np.array([self.everything.labels.index(name) for name in known])
        return np.asarray(leaves[outputs.probabilities.argmax(axis=1)])

    def msr(self, predicted: np.ndarray, names: Sequence[str]) -> float:
        """Returns the accuracy over the test images of some labels."""
        leaves = [self.everything.labels.index(name) for name in names]
        rows = np.isin(self.test.labels, leaves)
        return metrics.msr(self.test.labels[rows], predicted[rows])


def run() -> Result:
    """Returns the median over seeds of the MSR of the extended tree minus that of a new tree."""
    with tempfile.TemporaryDirectory() as folder:
        seed_figures = [_seed(_bench(seed, Path(folder) / str(seed))) for seed in SEEDS]
    gains = [figures["extend"]["msr"] - figures["all"]["msr"] for figures in seed_figures]
    return Result(
        value=statistics.median(gains),
        unit="MSR of the extended tree less that of one trained on all labels",
        bar="every subnetwork but the joined one the same to the bit, for every seed",
        ok=all(figures["extend"]["others_identical"] for figures in seed_figures),
        runs=gains,
        peer="flat network and tree trained on all labels",
        details={
            "seeds": seed_figures,
            "summary": {
                "extend_flops_share": _median(seed_figures, "extend", "train_flops_share"),
                "extend_seconds_share": _median(seed_figures, "extend", "seconds_share"),
                "merge_less_all": statistics.median(
                    figures["merge"]["msr"] - figures["all"]["msr"] for figures in seed_figures
                ),
                "merge_flops_share": _median(seed_figures, "merge", "train_flops_share"),
                "merge_root": _median(seed_figures, "merge", "root_accuracy"),
            },
            "root_sha256": seed_figures[0]["root_sha256"],
        },
        commands=["make preset NAME=demo", "dvc repro"],
    )


def _bench(seed: int, work_dir: Path) -> Bench:
    if not (SHARDS / "manifest.json").exists():
        raise SystemExit("data/shards is absent: run `dvc repro`")
    settings = fit.RunSettings(
        method="uppsala",
        grouping=None,
        own=Settings(PARAMS).section("uppsala", METHODS["uppsala"].Params),
        data=Settings(PARAMS).section("data", images.Params),
        augment=Settings(PARAMS).section("augment", augment.Params),
        backbone=Settings(PARAMS).section("backbone", backbone.Params),
        loop=Settings(PARAMS).section("loop", loop.Params),
    )
    device = loop.prepare(settings.loop)
    everything = open_data(SHARDS, CACHE, params=settings.data, device=device)
    strange = sorted(set(everything.labels) - set(FAMILY))
    if strange:
        raise SystemExit(f"data/shards is not the demo's, which has no label {', '.join(strange)}")
    test = open_split(SHARDS, CACHE, "test")
    return Bench(settings, device, everything, test, work_dir, seed)


def _seed(bench: Bench) -> dict[str, Any]:
    labels = bench.everything.labels
    rng = seeds.seed(bench.seed, "growth")
    new = str(rng.choice([n for n in labels if sum(FAMILY[n] == FAMILY[m] for m in labels) > 1]))
    whole, took = _tree(bench, labels, "all")
    everything = bench.predicted(whole.classifier, labels)
    rest = [name for name in labels if name != new]
    return {
        "seed": bench.seed,
        "root_sha256": bench.everything.root_sha256,
        "all": took
        | {
            "msr": bench.msr(everything, labels),
            "msr_old": bench.msr(everything, rest),
            "msr_new": bench.msr(everything, [new]),
        },
        "extend": _extend(bench, rest, new, took),
        "merge": _merge(bench, rng, took),
    }


def _extend(bench: Bench, rest: Sequence[str], new: str, all_took: dict[str, float]) -> Any:
    """Returns the figures of a tree that is trained without one label, and then extended by it."""
    labels = bench.everything.labels
    old, before = _tree(bench, rest, "rest")
    was = bench.msr(bench.predicted(old.classifier, rest), rest)
    seeds.seed(bench.seed, "grown", "weights")
    grown = extend.grow(
        old, bench.settings, bench.everything, device=bench.device, source="the tree of the rest"
    )
    tree, placed = grown.classifier, grown.placements[new]
    untouched = _copies(tree, but=placed.node)
    tree.to(bench.device)
    mean = np.array(old.model.mean, dtype=np.float32)
    took = _took(
        tree.refit(
            bench.everything,
            bench.trainer(mean, "grown"),
            seed=bench.seed,
            again=grown.again,
            anew=grown.anew,
        )
    )
    predicted = bench.predicted(tree, labels)
    family = {labels[leaf] for leaf in tree.hierarchy.nodes[placed.node]["members"]} - {new}
    now = tree.state_dict()
    return _shares(took, all_took) | {
        "label": new,
        "node": placed.node,
        "mass": placed.mass,
        "joined_its_family": {FAMILY[name] for name in family} == {FAMILY[new]},
        "msr_before": was,
        "msr": bench.msr(predicted, labels),
        "msr_old": bench.msr(predicted, rest),
        "msr_new": bench.msr(predicted, [new]),
        "others_identical": all(torch.equal(t, now[n].cpu()) for n, t in untouched.items()),
        "tensors_untouched": len(untouched),
        "old_tree": before,
    }


def _merge(bench: Bench, rng: np.random.Generator, all_took: dict[str, float]) -> Any:
    """Returns the figures of two trees, each over half of the families, that are merged."""
    labels = bench.everything.labels
    families = rng.permutation(sorted({FAMILY[name] for name in labels})).tolist()
    halves = [
        [name for name in labels if FAMILY[name] in chosen]
        for chosen in (families[: len(families) // 2], families[len(families) // 2 :])
    ]
    trees = [_tree(bench, half, f"half-{index}") for index, half in enumerate(halves)]
    apart = [
        bench.msr(bench.predicted(tree.classifier, half), half)
        for (tree, _), half in zip(trees, halves, strict=True)
    ]
    (first, _), (second, _) = trees
    mean = channel_mean(bench.everything.train.images)
    seeds.seed(bench.seed, "fused", "weights")
    fused = merge.fuse(first, second, bench.settings, bench.everything, mean=mean)
    fused.to(bench.device)
    trainer = bench.trainer(mean, "fused")
    took = _took(
        merge.learn(fused, first, bench.settings, bench.everything, trainer, seed=bench.seed)
    )
    coarse = prediction.predict(fused, bench.test, device=bench.device).coarse
    assert coarse is not None, "a fusion has a root"  # noqa: S101  # our own mistake
    side = np.array([labels[leaf] in halves[1] for leaf in bench.test.labels], dtype=np.int64)
    return _shares(took, all_took) | {
        "families": families,
        "msr_apart": apart,
        "msr": bench.msr(bench.predicted(fused, labels), labels),
        "root_accuracy": metrics.msr(side, coarse.argmax(axis=1)),
        "old_trees": [before for _, before in trees],
    }


def _tree(bench: Bench, names: Sequence[str], name: str) -> tuple[saved.Saved, dict[str, float]]:
    """Trains a flat network over some labels and a tree from it; returns the tree and both costs."""
    chosen = bench.only(names)
    mean = channel_mean(chosen.train.images)
    trainer, leaves = bench.trainer(mean, name), len(chosen.labels)
    families = sorted({FAMILY[label] for label in chosen.labels})
    clusters = [
        [leaf for leaf, label in enumerate(chosen.labels) if FAMILY[label] == family]
        for family in families
    ]
    build = _builder(bench, chosen, mean)
    flat = build("flat", hierarchy.flat(leaves))
    reports = [flat.fit(chosen, bench.trainer(mean, f"{name}-flat"), seed=bench.seed)]
    start = checkpoint.under("network", flat.state_dict())
    tree = build("uppsala", hierarchy.from_clusters(clusters, leaves))
    reports.append(tree.fit(chosen, trainer, seed=bench.seed, start=start))
    model = fit.describe(
        bench.settings,
        name=name,
        seed=bench.seed,
        shards=chosen,
        tree=tree.hierarchy,
        mean=mean.tolist(),
    )
    return saved.Saved(tree, model), _took(*reports)


def _builder(
    bench: Bench, chosen: DataModule, mean: np.ndarray
) -> Callable[[str, Any], HierarchicalClassifier]:
    settings = bench.settings

    def build(method: str, tree: Any) -> HierarchicalClassifier:
        seeds.seed(bench.seed, method, "weights")
        own = (
            settings.own
            if method == "uppsala"
            else Settings(PARAMS).section(method, METHODS[method].Params)
        )
        built = saved.build(
            method,
            own,
            settings.backbone,
            tree=tree,
            mean=mean,
            side=settings.augment.network_side(chosen.side),
        )
        built.to(bench.device)
        return built

    return build


def _only(images: ImageSet, leaves: Sequence[int]) -> ImageSet:
    rows = np.flatnonzero(np.isin(images.labels, leaves))
    return ImageSet(
        images.images[rows],
        np.searchsorted(leaves, images.labels[rows]),
        images.post_ids[rows],
        images.white[rows],
    )


def _copies(tree: torch.nn.Module, *, but: str) -> dict[str, torch.Tensor]:
    """Returns copies of the tensors of all subnetworks but one."""
    return {
        name: tensor.clone()
        for name, tensor in tree.state_dict().items()
        if name.startswith("branches.") and name.split(".")[1] != but
    }


def _took(*reports: FitReport) -> dict[str, float]:
    networks = [network for report in reports for network in report.networks]
    return {
        "seconds": sum(network.seconds for network in networks),
        "train_flops": sum(network.train_flops for network in networks),
        "networks": len(networks),
    }


def _shares(took: dict[str, float], whole: dict[str, float]) -> dict[str, Any]:
    """Returns the cost, and its share of the cost of training on all labels."""
    shares = {f"{n}_share": took[n] / whole[n] for n in ("seconds", "train_flops")}
    return {**took, **shares}


def _median(seed_figures: Sequence[dict[str, Any]], part: str, name: str) -> float:
    return statistics.median(figures[part][name] for figures in seed_figures)
