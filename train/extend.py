"""
`python -m train extend FOLDER NEW_RUN`: labels added to a trained tree (methods.md 2.7).

Reads FOLDER, which is results/RUN/SEED of an older data set, and data/shards with its labels and
new ones; writes results/NEW_RUN/SEED as `fit` does. Only the root and the clusters that new labels
join are trained, from the weights they have.
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
from train.runtime import distributed, seeds
from train.tree import grafting

log = logging.getLogger(__name__)

ENOUGH = 0.5  # of the probability mass: with less a label founds a cluster (methods.md 2.7)
EXAMPLE = """\
data/shards holds the labels of the old tree and new ones. Each new label joins the cluster that the
old root finds likeliest on its images, or founds one where none gets more than half of the
probability. All other subnetworks stay as they are, to the bit.

example: a tree of 12 personae, and two more personae since then
  mv results old                                       params.yaml now asks for 14
  dvc repro catalog                                    shards of all 14
  python -m train extend old/uppsala/0 grown
  python -m train evaluate grown
  python -m train predict grown picture.png
"""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a new label went."""

    node: str
    """The cluster in which it hangs now."""
    mass: float
    """Most of the old root's probability that a cluster got on the label's training images."""


@dataclass(frozen=True, slots=True)
class Grown:
    """A tree with new labels, not yet trained on them."""

    classifier: uppsala.Classifier
    again: frozenset[str]
    """Nodes whose old subnetworks are to be trained again."""
    anew: frozenset[str]
    """Nodes that had nothing to decide, and need a subnetwork now."""
    placed: Mapping[str, Placed]
    """By name, the new labels."""


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
    Extends the tree in `folder` by the labels that it lacks, and returns the new run's folder.

    Raises:
        MixedResults: The shards lack a label of the tree, or have no other.
        BadParams: `folder` is no run of `uppsala`, or the settings ask for other networks.
    """
    device = loop.prepare(settings.loop)
    with distributed.process_group(device):
        shards = fit.open_shards(settings, device, data_dir=data_dir, work_dir=work_dir)
        old = origin.load(folder, settings, side=shards.side, target=results_dir / name / str(seed))
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
            placed={new: (one.node, round(one.mass, 6)) for new, one in grown.placed.items()},
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
) -> Grown:
    """
    Returns the tree with the labels that only the shards have, and every old weight in its place.

    A new label joins the cluster that the old root gives the largest mean probability on its
    training images; where none gets more than a half, the label founds a cluster. The rows of its
    output are drawn from torch's generator: seed it first.

    Raises:
        MixedResults: The shards lack a label of the tree, or have no other.
        BadParams: The settings freeze other blocks than the old run, or there is rollback.
    """
    before = old.classifier
    assert isinstance(before, uppsala.Classifier), "origin loads trees"  # noqa: S101  # our own mistake
    assert isinstance(settings.own, uppsala.Params), "settings are made for trees"  # noqa: S101  # our own mistake
    origin.check(Path(source), "uppsala.freeze", before.params.freeze, settings.own.freeze)
    if before.params.rollback or settings.own.rollback:
        raise BadParams(
            "A tree with rollback cannot be extended: what every subnetwork rejects changes with each "
            f"new label, and those of {source} stay as they are. Train it without uppsala.rollback."
        )
    names = list(old.model.labels)
    new = _new_labels(names, shards.labels, source=source)
    before.to(device)
    masses = {leaf: mass(before, shards.train, leaf, device=device) for leaf in new}
    before.to("cpu")
    joins = {
        leaf: int(found.argmax()) if found.max() > ENOUGH else None
        for leaf, found in masses.items()
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
    placed = {}
    for leaf, found in masses.items():
        (node,) = tree.predecessors(f"label-{leaf}")
        placed[shards.labels[leaf]] = Placed(node, float(found.max()))
        log.info("%s goes to %s, mass %.3f", shards.labels[leaf], node, found.max())
    touched = {one.node for one in placed.values()} & set(classifier.branches)
    known = touched & set(before.branches)
    return Grown(classifier, frozenset(known), frozenset(touched - known), placed)


@torch.no_grad()
def mass(
    classifier: uppsala.Classifier, pictures: ImageSet, leaf: int, *, device: torch.device
) -> Float[np.ndarray, " cluster"]:
    """Returns the mean of the root's probabilities over the images of one leaf."""
    rows = np.flatnonzero(pictures.labels == leaf)
    found = [
        classifier.coarse_proba(inputs).double().cpu().numpy()
        for inputs in prediction.batches(pictures, device, rows=rows)
    ]
    return np.asarray(np.concatenate(found).mean(axis=0))


def _new_labels(before: list[str], now: tuple[str, ...], *, source: str) -> list[int]:
    """The leaves of the labels that the old tree lacks."""
    gone = sorted(set(before) - set(now))
    if gone:
        raise MixedResults(
            f"The shards lack {len(gone)} of the {len(before)} labels of {source}: "
            f"{', '.join(gone[:5])}. Extending keeps every old label: curate a data set that holds "
            "them all and the new ones."
        )
    new = [leaf for leaf, label in enumerate(now) if label not in before]
    if not new:
        raise MixedResults(
            f"The shards hold the {len(before)} labels of {source} and no other: there is nothing to "
            "add. Curate a data set with more labels."
        )
    return new


@torch.no_grad()
def _inherit(classifier: uppsala.Classifier, before: Mapping[str, Tensor]) -> None:
    """Copies every old tensor; of a layer that has grown the first rows, for what is new is last."""
    now = classifier.state_dict()
    for name, tensor in before.items():
        place = now[name] if now[name].shape == tensor.shape else now[name][: len(tensor)]
        place.copy_(tensor)
