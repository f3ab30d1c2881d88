"""
Trains one run: a method with a grouping, one seed.

Reads data/shards (train and val only), the grouping of the seed and the flat network of the seed;
writes results/RUN/SEED/{weights.safetensors,model.json,fit.json,curves.csv,validation.parquet}.
Checkpoints lie in work/train/RUN-SEED-KEY until the run is finished; KEY is a hash of all inputs.
"""

import copy
import hashlib
import json
import logging
import os
import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import PIL
import torch
from pydantic import BaseModel
from torch import Tensor

from personae import tables
from personae.engine import Engine
from personae.errors import BadParams
from train import backbone, guards, revision, saved
from train.classifier import Cost, FitReport, HierarchicalClassifier
from train.data.images import DataModule, channel_mean, open_data
from train.documents import (
    CountedCost,
    FitDocument,
    HierarchyDocument,
    MatchDocument,
    ModelDocument,
    NetworkDocument,
)
from train.engine import curves, loop
from train.engine.trainer import Trainer
from train.errors import BadHierarchy
from train.evaluation import prediction
from train.grouping import document
from train.params.augment import Params as AugmentParams
from train.params.backbone import Backbone
from train.params.data import Params as DataParams
from train.params.loop import Params as LoopParams
from train.runs import FLAT
from train.runtime import checkpoint, distributed, seeds
from train.tree import hierarchy

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunSettings:
    """The parameters of a run, one model per section of params.yaml."""

    method: str
    grouping: str | None
    """Name of the grouping in data/clustering/SEED; None: all labels are children of the root."""
    own: BaseModel
    """The section of the method."""
    data: DataParams
    augment: AugmentParams
    backbone: Backbone
    loop: LoopParams
    engine: Engine = "local"
    """What trains independent networks. It changes no result, and no document records it."""

    def document(self) -> dict[str, Any]:
        """Returns the values of all parameters by section."""
        sections = {
            "data": self.data,
            "augment": self.augment,
            "backbone": self.backbone,
            "loop": self.loop,
            self.method: self.own,
        }
        return {name: section.model_dump(mode="json") for name, section in sections.items()}


def run(
    settings: RunSettings,
    *,
    name: str,
    seed: int,
    data_dir: Path,
    results_dir: Path,
    work_dir: Path,
    match: MatchDocument | None = None,
) -> Path:
    """
    Trains the run `name` with this seed and returns its folder.

    Under `torchrun` every process computes its part of each batch, and rank 0 writes. `match` holds
    the wanted and the reached cost of a control; fit.json keeps it.

    Raises:
        AlreadyRunning: Another process trains or evaluates the run with this seed.
    """
    device = loop.prepare(settings.loop)
    folder = results_dir / name / str(seed)
    with distributed.process_group(device), saved.reserved(folder, work_dir=work_dir):
        return _run(
            settings,
            device,
            name=name,
            seed=seed,
            data_dir=data_dir,
            results_dir=results_dir,
            work_dir=work_dir,
            match=match,
        )


def _run(
    settings: RunSettings,
    device: torch.device,
    *,
    name: str,
    seed: int,
    data_dir: Path,
    results_dir: Path,
    work_dir: Path,
    match: MatchDocument | None,
) -> Path:
    shards = open_shards(settings, device, data_dir=data_dir, work_dir=work_dir)
    groupings = data_dir / "clustering" / str(seed)
    if settings.grouping and (reason := document.nothing_to_group(groupings, settings.grouping)):
        log.warning("%s: nothing to group, so the run is the flat network. %s", name, reason)
        source, folder = (results_dir / each / str(seed) for each in (FLAT, name))
        _flat_network(source, shards)
        if distributed.rank() == 0:
            saved.copy(source, folder, run=name)
        distributed.barrier()
        return folder
    tree = _tree(settings.grouping, shards, groupings)
    start = None
    if settings.grouping:
        start = _flat_network(results_dir / "flat" / str(seed), shards)
    mean = channel_mean(shards.train.images)
    seeds.seed(seed, name, "weights")
    classifier = saved.build(
        settings.method,
        settings.own,
        settings.backbone,
        tree=tree,
        side=settings.augment.network_side(shards.side),
        mean=mean,
    )
    model = describe(settings, name=name, seed=seed, shards=shards, tree=tree, mean=mean.tolist())
    return train(
        classifier,
        lambda trainer: classifier.fit(shards, trainer, seed=seed, start=start),
        settings=settings,
        model=model,
        start=start,
        shards=shards,
        device=device,
        results_dir=results_dir,
        work_dir=work_dir,
        match=match,
    )


def open_shards(
    settings: RunSettings, device: torch.device, *, data_dir: Path, work_dir: Path
) -> DataModule:
    """
    Opens the training and validation split; raises as `open_data`.

    Raises:
        BadParams: A batch has fewer than two images for each process, or the recipe chooses its epoch
            on images that are trained on.
    """
    if settings.data.train_on_val and loop.recipe_of(settings.loop).stops_early:
        raise BadParams(
            "loop.recipe: report stops early and keeps the weights of the least validation loss, and "
            "data.train_on_val trains on these images. Set loop.recipe: fast or step, or "
            "data.train_on_val: false."
        )
    if settings.data.batch_size < 2 * distributed.world_size():
        raise BadParams(
            f"data.batch_size is {settings.data.batch_size}, and {distributed.world_size()} processes "
            "need two images each of every batch. Raise it, or start fewer processes."
        )
    return open_data(data_dir / "shards", work_dir / "cache", params=settings.data, device=device)


def train(
    classifier: HierarchicalClassifier,
    learn: Callable[[Trainer], FitReport],
    *,
    settings: RunSettings,
    model: ModelDocument,
    start: Mapping[str, Tensor] | None,
    shards: DataModule,
    device: torch.device,
    results_dir: Path,
    work_dir: Path,
    match: MatchDocument | None = None,
) -> Path:
    """
    Trains a classifier by calling `learn`, writes the run that `model` describes, returns its folder.

    `start` holds the tensors that training starts from. The folder of the checkpoints is named by a
    hash of `model` and `start`. model.json gets the tree as it is after the training.
    """
    commit = revision.commit()  # before the training: files that change meanwhile do not train
    name, seed = model.run, model.seed
    checkpoints = work_dir / "train" / f"{name}-{seed}-{_key(model, start, device)}"
    log.info("%s: %s on %s, %d labels", name, settings.document(), device, len(shards.labels))
    classifier.to(device)
    trainer = Trainer(
        params=settings.loop,
        augment=settings.augment,
        batch_size=settings.data.batch_size,
        mean=torch.tensor(model.mean, dtype=torch.float32, device=device),
        device=device,
        work_dir=checkpoints,
        events_dir=curves.events_dir(name, seed),
        engine=settings.engine,
    )
    report = learn(trainer)
    classifier.eval()
    tree = HierarchyDocument(**hierarchy.to_json(classifier.hierarchy))  # it may have grown
    model = model.model_copy(update={"hierarchy": tree})
    folder = results_dir / name / str(seed)
    if distributed.rank() == 0:
        _keep(
            folder,
            classifier,
            model=model,
            report=report,
            trainer=trainer,
            shards=shards,
            match=match,
            commit=commit,
        )
        shutil.rmtree(checkpoints)
    distributed.barrier()
    return folder


def _keep(
    folder: Path,
    classifier: HierarchicalClassifier,
    *,
    model: ModelDocument,
    report: FitReport,
    trainer: Trainer,
    shards: DataModule,
    match: MatchDocument | None,
    commit: str,
) -> None:
    """Writes the files of the run."""
    saved.save(folder, classifier, model)
    predictions = prediction.predict(classifier, shards.val, device=trainer.device)
    tables.write(
        folder / "validation.parquet", prediction.table(predictions, shards.val, split="val")
    )
    curves.write_csv(folder / "curves.csv", trainer.curves)
    fitted = _fit_document(
        report,
        classifier.cost(),
        trainer.device,
        shares=predictions.executed,
        needs_flat=report.needs_flat(model.grouping),
        match=match,
        commit=commit,
    )
    fitted.write(folder / "fit.json")
    log.info(
        "%s: %d networks in %.1f s, critical path %.1f s, val MSR %.4f",
        folder,
        len(report.networks),
        report.total_seconds,
        report.critical_path_seconds,
        np.mean(predictions.probabilities.argmax(axis=1) == shards.val.labels),
    )
    record = guards.record_of(model, fitted, validation=len(shards.val), curves=trainer.curves)
    for warning in guards.of_training(record):
        log.warning("%s: %s", folder, warning)


def _reached(match: MatchDocument | None, report: FitReport) -> MatchDocument | None:
    """Returns `match` with the actual cost of a control: its training may have stopped early."""
    if match is None or match.equal != "train_flops":
        return match
    reached = sum(network.train_flops for network in report.networks)
    return match.model_copy(update={"reached": reached, "ratio": reached / match.wanted})


def _tree(grouping: str | None, shards: DataModule, folder: Path) -> nx.DiGraph:
    if grouping is None:
        return hierarchy.flat(len(shards.labels))
    groups = document.read(folder, grouping)
    if groups.labels != shards.labels:
        raise BadHierarchy(
            f"{folder / grouping}.json groups other labels than the shards hold. Run stages 'flat' "
            "and 'clustering' again on these shards."
        )
    return document.tree(groups)


def _flat_network(folder: Path, shards: DataModule) -> Mapping[str, Tensor] | None:
    """Returns the tensors of the flat network of this seed, or None if it was not trained."""
    if not (folder / "weights.safetensors").exists():
        return None
    model = ModelDocument.read(folder / "model.json", stage="flat")
    model.check_shards(shards.labels, shards.root_sha256, folder=folder)
    return checkpoint.under("network", saved.load_weights(folder, model))


def describe(
    settings: RunSettings, *, name: str, seed: int, shards: DataModule, tree: nx.DiGraph, mean: Any
) -> ModelDocument:
    """Returns model.json of a run; `mean` holds the mean of each channel in 0..1."""
    margin = {} if shards.background == "border" else {"background": shards.background}
    return ModelDocument(
        method=settings.method,
        grouping=settings.grouping,
        run=name,
        seed=seed,
        labels=shards.labels,
        hierarchy=HierarchyDocument(**hierarchy.to_json(tree)),
        params=settings.document(),
        backbone=settings.backbone.name,
        side=shards.side,
        mean=mean,
        root_sha256=shards.root_sha256,
        versions=versions() | backbone.origin(settings.backbone),
        **margin,
    )


def _key(model: ModelDocument, start: Mapping[str, Tensor] | None, device: torch.device) -> str:
    """
    Returns a hash of all inputs of a training.

    `loop.jobs`, `data.storage` and the number of processes are none: they do not change which images
    an update sees, so that a training continues with others.
    """
    facts = copy.deepcopy(model.facts())
    del facts["params"]["loop"]["jobs"], facts["params"]["data"]["storage"]
    inputs = [facts, device.type]
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode())
    for name, tensor in sorted((start or {}).items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the libraries that a training depends on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
    }


def _fit_document(
    report: FitReport,
    cost: Cost,
    device: torch.device,
    *,
    shares: dict[str, float],
    needs_flat: bool,
    match: MatchDocument | None,
    commit: str,
) -> FitDocument:
    is_cuda = device.type == "cuda"
    return FitDocument(
        networks=tuple(NetworkDocument(**asdict(network)) for network in report.networks),
        total_seconds=report.total_seconds,
        critical_path_seconds=report.critical_path_seconds,
        cost=CountedCost(
            params=cost.params,
            macs=dict(cost.macs),
            macs_max=cost.macs_max,
            macs_expected=cost.macs_expected(shares),
            shares=shares,
        ),
        device=device.type,
        device_name=torch.cuda.get_device_name() if is_cuda else platform.machine(),
        threads=torch.get_num_threads(),
        processes=distributed.world_size(),
        cpu_cores=os.cpu_count(),
        versions=versions(),
        needs_flat=needs_flat,
        match=_reached(match, report),
        commit=commit,
    )
