"""
`python -m train merge FOLDER FOLDER NEW_RUN`: puts two trained trees below a new root.

Reads both folders (results/RUN/SEED), whose trees have no label in common, and data/shards with the
labels of both. Writes results/NEW_RUN/SEED as stage `fit` does. Only the new root is trained, with
the parameters of section `uppsala` for roots; it starts from the root of the first tree. Method:
`docs/methods/uppsala.md`.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from personae.errors import BadParams
from train import backbone, fit, origin, saved
from train.classifier import FitReport
from train.data.images import DataModule, channel_mean
from train.engine import loop
from train.engine.trainer import Trainer
from train.errors import MixedResults
from train.methods import fusion
from train.params.uppsala import Params
from train.runtime import checkpoint, distributed, seeds


def run(
    settings: fit.RunSettings,
    folder: Path,
    other: Path,
    *,
    name: str,
    seed: int,
    data_dir: Path,
    results_dir: Path,
    work_dir: Path,
) -> Path:
    """
    Merges the trees of two folders; returns the folder of the new run.

    Raises:
        MixedResults: The trees share a label, or the labels of the shards are not theirs.
        BadParams: A folder is no run of `uppsala`, the settings describe other networks, or they set
            what only the training of subnetworks reads.
        AlreadyRunning: Another process trains or evaluates the new run with this seed.
    """
    device = loop.prepare(settings.loop)
    target = results_dir / name / str(seed)
    with distributed.process_group(device), saved.reserved(target, work_dir=work_dir):
        shards = fit.open_shards(settings, device, data_dir=data_dir, work_dir=work_dir)
        first, second = (
            origin.load(path, settings, side=shards.side, target=target) for path in (folder, other)
        )
        _check_params(settings, first, second, folder=folder)
        _check_labels(first.model.labels, second.model.labels, shards, folders=(folder, other))
        mean = channel_mean(shards.train.images)
        seeds.seed(seed, name, "weights")
        classifier = fuse(first, second, settings, shards, mean=mean)
        model = fit.describe(
            settings,
            name=name,
            seed=seed,
            shards=shards,
            tree=classifier.hierarchy,
            mean=mean.tolist(),
        )
        parts = {"method": fusion.NAME, "parts": (first.model, second.model)}
        return fit.train(
            classifier,
            lambda trainer: learn(classifier, first, settings, shards, trainer, seed=seed),
            settings=settings,
            model=model.model_copy(update=parts),
            start=classifier.state_dict(),
            shards=shards,
            device=device,
            results_dir=results_dir,
            work_dir=work_dir,
        )


def fuse(
    first: saved.Saved,
    second: saved.Saved,
    settings: fit.RunSettings,
    shards: DataModule,
    *,
    mean: Float[np.ndarray, "3"],
) -> fusion.Classifier:
    """Returns both trees below a root initialised from torch's generator: seed it first."""
    side = settings.augment.network_side(shards.side)
    return fusion.Classifier(
        [first.classifier, second.classifier],
        leaves=[
            [shards.labels.index(label) for label in run.model.labels] for run in (first, second)
        ],
        build=lambda outputs: backbone.build(settings.backbone, outputs=outputs, side=side),
        mean=mean,
    )


def learn(
    classifier: fusion.Classifier,
    first: saved.Saved,
    settings: fit.RunSettings,
    shards: DataModule,
    trainer: Trainer,
    *,
    seed: int,
) -> FitReport:
    """Trains the new root; with `uppsala.root_init: flat` it starts from the first tree's root."""
    own = _own(settings)
    start = None
    if own.root_init == "flat":
        start = checkpoint.under("root", first.classifier.state_dict())
    return classifier.fit(
        shards,
        trainer,
        seed=seed,
        start=start,
        balance=own.balance,
        epochs=own.root_epochs,
        lr_scale=1.0 if start is None else own.lr_scale,
    )


def _own(settings: fit.RunSettings) -> Params:
    assert isinstance(settings.own, Params), "settings are made for trees"  # noqa: S101  # our own mistake
    return settings.own


def _check_params(
    settings: fit.RunSettings, first: saved.Saved, second: saved.Saved, *, folder: Path
) -> None:
    own = _own(settings)
    for name, unset in (("depth", None), ("rollback", 0)):
        if getattr(own, name) != unset:
            raise BadParams(
                f"Trees that are merged keep their subnetworks, so that uppsala.{name} would do "
                f"nothing. Set uppsala.{name}: {json.dumps(unset)}."
            )
    freezes = [tree.model.params[origin.METHOD]["freeze"] for tree in (first, second)]
    if own.freeze not in freezes:
        origin.check(folder, "uppsala.freeze", freezes[0], own.freeze)


def _check_labels(
    first: Sequence[str], second: Sequence[str], shards: DataModule, *, folders: tuple[Path, Path]
) -> None:
    both = sorted(set(first) & set(second))
    if both:
        raise MixedResults(
            f"{folders[0]} and {folders[1]} have {', '.join(both[:5])} in common: a label can be in "
            "only one tree. Merge trees without a common label, or extend a tree instead."
        )
    odd = sorted({*first, *second} ^ set(shards.labels))
    if odd:
        raise MixedResults(
            f"The shards hold {len(shards.labels)} labels, and the two trees "
            f"{len(first) + len(second)}; not in both: {', '.join(odd[:5])}. Curate a data set with "
            "exactly the labels of both trees."
        )
