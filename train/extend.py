"""
`python -m train extend FOLDER NEW_RUN`: adds labels to a trained tree.

Reads FOLDER, the folder results/RUN/SEED of an older data set, and data/shards with its labels and
new labels. Writes results/NEW_RUN/SEED as stage `fit` does. Only the root and the clusters with new
labels are trained, from their old weights. Method: `docs/methods/uppsala.md`.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from personae.errors import BadParams
from train import fit, origin, saved
from train.data.images import DataModule, ImageSet
from train.documents import ExtendsDocument
from train.engine import loop
from train.errors import MixedResults
from train.evaluation import prediction
from train.methods.uppsala import classifier as uppsala
from train.params.uppsala import Params
from train.runtime import distributed, seeds
from train.tree import grafting

log = logging.getLogger(__name__)

ENOUGH = 0.5  # of the probability mass: a label whose largest share is less gets a new cluster


@dataclass(frozen=True, slots=True)
class Placement:
    """The cluster that a new label joins."""

    node: str
    """Node of the cluster."""
    mass: float
    """Largest mean probability, in 0..1, of the old root on the label's training images."""


@dataclass(frozen=True, slots=True)
class ExtendedTree:
    """A tree with new labels, not yet trained on them."""

    classifier: uppsala.Classifier
    again: frozenset[str]
    """Nodes whose old subnetworks are trained further."""
    anew: frozenset[str]
    """Nodes that had one label, and need a subnetwork now."""
    placements: Mapping[str, Placement]
    """The cluster of each new label, by name of the label."""


def run(
    settings: fit.RunSettings,
    folder: Path,
    *,
    name: str,
    seed: int,
    data_dir: Path,
    results_dir: Path,
    work_dir: Path,
) -> Path:
    """
    Extends the tree in `folder` by the new labels of the shards; returns the folder of the new run.

    Raises:
        MixedResults: The shards lack a label of the tree, or have no new label.
        BadParams: `folder` is no run of `uppsala`, or the settings describe other networks.
        AlreadyRunning: Another process trains or evaluates the new run with this seed.
    """
    device = loop.prepare(settings.loop)
    target = results_dir / name / str(seed)
    with distributed.process_group(device), saved.reserved(target, work_dir=work_dir):
        shards = fit.open_shards(settings, device, data_dir=data_dir, work_dir=work_dir)
        old = origin.load(folder, settings, side=shards.side, target=target)
        seeds.seed(seed, name, "weights")
        grown = grow(old, settings, shards, device=device, source=str(folder))
        classifier = grown.classifier
        model = fit.describe(
            settings,
            name=name,
            seed=seed,
            shards=shards,
            tree=classifier.hierarchy,
            mean=old.model.mean,
        )
        extends = ExtendsDocument(
            run=old.model.run,
            seed=old.model.seed,
            placed={
                label: (placement.node, round(placement.mass, 6))
                for label, placement in grown.placements.items()
            },
        )
        return fit.train(
            classifier,
            lambda trainer: classifier.refit(
                shards, trainer, seed=seed, again=grown.again, anew=grown.anew
            ),
            settings=settings,
            model=model.model_copy(update={"extends": extends}),
            start=classifier.state_dict(),
            shards=shards,
            device=device,
            results_dir=results_dir,
            work_dir=work_dir,
        )


def grow(
    old: saved.Saved,
    settings: fit.RunSettings,
    shards: DataModule,
    *,
    device: torch.device,
    source: str,
) -> ExtendedTree:
    """
    Returns the tree with the new labels of the shards and all weights of the old tree.

    A new label joins the cluster with the largest mean probability of the old root on the label's
    training images. If this probability is not above `ENOUGH`, the label gets a new cluster. New
    outputs are initialised from torch's generator: seed it first.

    Source: Colin and Nagarajan, A hierarchical architecture of CNNs to increase the performance on
    a categorization problem, Uppsala University 2018, section 4.2.1, which proposes to extend the
    set of labels; the rule for the cluster is ours.

    Raises:
        MixedResults: The shards lack a label of the tree, or have no new label.
        BadParams: The settings freeze other blocks than the old run, name another start of the
            root or a depth, or either has rollback.
    """
    before = old.classifier
    assert isinstance(before, uppsala.Classifier), "origin loads trees"  # noqa: S101  # our own mistake
    assert isinstance(settings.own, Params), "settings are made for trees"  # noqa: S101  # our own mistake
    for name in ("freeze", "root_init"):
        was, now = getattr(before.params, name), getattr(settings.own, name)
        origin.check(Path(source), f"uppsala.{name}", was, now)
    if settings.own.depth:
        raise BadParams(
            "A tree that is extended keeps its clusters whole, so that uppsala.depth would do nothing. "
            "Set uppsala.depth: null, or train a new tree on all labels."
        )
    if before.params.rollback or settings.own.rollback:
        raise BadParams(
            "A tree with rollback cannot be extended: every subnetwork would have to learn to reject "
            f"the new labels, and those of {source} are not trained. Train it without "
            "uppsala.rollback."
        )
    names = list(old.model.labels)
    new = _new_labels(names, shards.labels, source=source)
    before.to(device)
    masses = {leaf: mass(before, shards.train, leaf, device=device) for leaf in new}
    before.to("cpu")
    joins = {
        leaf: int(shares.argmax()) if shares.max() > ENOUGH else None
        for leaf, shares in masses.items()
    }
    leaves = [shards.labels.index(label) for label in names]
    tree = grafting.extended(before.hierarchy, leaves, joins)
    classifier = saved.build(
        origin.METHOD,
        settings.own,
        settings.backbone,
        tree=tree,
        side=settings.augment.network_side(shards.side),
        mean=np.array(old.model.mean),
    )
    assert isinstance(classifier, uppsala.Classifier), "built by its name"  # noqa: S101  # our own mistake
    _inherit(classifier, before.state_dict())
    placements = {}
    for leaf, shares in masses.items():
        (node,) = tree.predecessors(f"label-{leaf}")
        placements[shards.labels[leaf]] = Placement(node, float(shares.max()))
        log.info("%s joins %s, probability %.3f", shards.labels[leaf], node, shares.max())
    changed = {placement.node for placement in placements.values()} & set(classifier.branches)
    again = changed & set(before.branches)
    return ExtendedTree(classifier, frozenset(again), frozenset(changed - again), placements)


@torch.no_grad()
def mass(
    classifier: uppsala.Classifier, images: ImageSet, leaf: int, *, device: torch.device
) -> Float[np.ndarray, " cluster"]:
    """Returns the root's mean probability of each cluster over the images of one leaf."""
    rows = np.flatnonzero(images.labels == leaf)
    probabilities = [
        classifier.coarse_proba(inputs).double().cpu().numpy()
        for inputs in prediction.batches(images, device, rows=rows)
    ]
    return np.asarray(np.concatenate(probabilities).mean(axis=0))


def _new_labels(before: list[str], now: tuple[str, ...], *, source: str) -> list[int]:
    """Returns the leaves of the labels that the old tree lacks."""
    missing = sorted(set(before) - set(now))
    if missing:
        raise MixedResults(
            f"The shards lack {len(missing)} of the {len(before)} labels of {source}: "
            f"{', '.join(missing[:5])}. Extending keeps every old label: curate a data set with all "
            "old labels and the new labels."
        )
    new = [leaf for leaf, label in enumerate(now) if label not in before]
    if not new:
        raise MixedResults(
            f"The shards hold the {len(before)} labels of {source} and no other: there is no label "
            "to add. Curate a data set with more labels."
        )
    return new


@torch.no_grad()
def _inherit(classifier: uppsala.Classifier, before: Mapping[str, Tensor]) -> None:
    """Copies every old tensor, in a larger layer into the first rows: new outputs come last."""
    now = classifier.state_dict()
    for name, tensor in before.items():
        same_shape = now[name].shape == tensor.shape
        (now[name] if same_shape else now[name][: len(tensor)]).copy_(tensor)
