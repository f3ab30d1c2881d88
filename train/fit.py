"""
Trains one run: a method with a grouping, one seed.

Reads data/shards (train and val only), the grouping of the seed and the flat network of the seed;
writes results/RUN/SEED/{weights.safetensors,model.json,fit.json,curves.csv,validation.parquet}.
Checkpoints lie in work/train/RUN-SEED-KEY, KEY being a hash of all inputs, until the run is done.
"""

import copy
import csv
import hashlib
import json
import logging
import os
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import PIL
import torch
from pydantic import BaseModel
from torch import Tensor

from personae import files, tables
from personae.errors import BadParams
from train import backbone, revision, saved
from train.classifier import Cost, FitReport, HierarchicalClassifier
from train.data import augment, images
from train.data.images import DataModule, channel_mean, open_data
from train.engine import loop
from train.engine.trainer import Trainer
from train.errors import BadCheckpoint, BadHierarchy
from train.evaluation import prediction
from train.grouping import document
from train.runtime import checkpoint, distributed, seeds
from train.tree import hierarchy

log = logging.getLogger(__name__)

_CURVES = (
    "network",
    "epoch",
    "step",
    "lr",
    "train_loss",
    "val_loss",
    "val_accuracy",
    "seconds",
)


@dataclass(frozen=True, slots=True)
class RunSettings:
    """The parameters of a run, one model per section of params.yaml."""

    method: str
    grouping: str | None
    """Name of the clustering that gives the tree; None: all labels under the root."""
    own: BaseModel
    """The section of the method."""
    data: images.Params
    augment: augment.Params
    backbone: backbone.Params
    loop: loop.Params

    def document(self) -> dict[str, Any]:
        """Returns all values by section."""
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
    match: Mapping[str, Any] | None = None,
) -> Path:
    """
    Trains the run `name` with this seed and returns its folder.

    Under `torchrun` every process trains its part of each batch, and the first one writes. `match`
    is what `controls` says of a control, kept in fit.json.
    """
    device = loop.prepare(settings.loop)
    with distributed.joined(device):
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
    match: Mapping[str, Any] | None,
) -> Path:
    shards = open_shards(settings, device, data_dir=data_dir, work_dir=work_dir)
    tree = _tree(settings.grouping, shards, data_dir / "clustering" / str(seed))
    start = None
    if settings.grouping:
        start = _flat_network(results_dir / "flat" / str(seed), root_sha256=shards.root_sha256)
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
    facts = describe(settings, name=name, seed=seed, shards=shards, tree=tree, mean=mean.tolist())
    return train(
        classifier,
        lambda trainer: classifier.fit(shards, trainer, seed=seed, start=start),
        settings=settings,
        facts=facts,
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
    Opens what training may see; raises as `open_data`.

    Raises:
        BadParams: A batch has less than two images for each process.
    """
    if settings.data.batch_size < 2 * distributed.size():
        raise BadParams(
            f"data.batch_size is {settings.data.batch_size}, and {distributed.size()} processes "
            "need two images each of every batch. Raise it, or start fewer processes."
        )
    return open_data(data_dir / "shards", work_dir / "cache", params=settings.data, device=device)


def train(
    classifier: HierarchicalClassifier,
    learn: Callable[[Trainer], FitReport],
    *,
    settings: RunSettings,
    facts: dict[str, Any],
    start: Mapping[str, Tensor] | None,
    shards: DataModule,
    device: torch.device,
    results_dir: Path,
    work_dir: Path,
    match: Mapping[str, Any] | None = None,
) -> Path:
    """
    Lets `learn` train the classifier, writes the run that `facts` describe, and returns its folder.

    `start` are the tensors that training starts from: with the facts they name the checkpoints. The
    tree that training leaves is put in `facts`.
    """
    commit = revision.commit()  # what is edited meanwhile does not train here
    name, seed = str(facts["run"]), int(facts["seed"])
    checkpoints = work_dir / "train" / f"{name}-{seed}-{_key(facts, start, device)}"
    log.info("%s: %s on %s, %d labels", name, settings.document(), device, len(shards.labels))
    classifier.to(device)
    trainer = Trainer(
        params=settings.loop,
        augment=settings.augment,
        batch_size=settings.data.batch_size,
        mean=torch.tensor(facts["mean"], dtype=torch.float32, device=device),
        device=device,
        work_dir=checkpoints,
    )
    report = learn(trainer)
    classifier.eval()
    facts["hierarchy"] = hierarchy.to_json(classifier.hierarchy)  # it may have grown
    folder = results_dir / name / str(seed)
    if distributed.rank() == 0:
        _keep(
            folder,
            classifier,
            facts=facts,
            report=report,
            trainer=trainer,
            shards=shards,
            match=match,
            commit=commit,
        )
        shutil.rmtree(checkpoints)
    distributed.wait()
    return folder


def _keep(
    folder: Path,
    classifier: HierarchicalClassifier,
    *,
    facts: Mapping[str, Any],
    report: FitReport,
    trainer: Trainer,
    shards: DataModule,
    match: Mapping[str, Any] | None,
    commit: str,
) -> None:
    """Writes everything that the stages below read."""
    saved.save(folder, classifier, facts)
    predictions = prediction.predict(classifier, shards.val, device=trainer.device)
    tables.write(
        folder / "validation.parquet", prediction.table(predictions, shards.val, split="val")
    )
    _write_curves(folder / "curves.csv", trainer.curves)
    document = _fit_facts(report, classifier.cost(), trainer.device, shares=predictions.executed)
    document["needs_flat"] = report.needs_flat(facts["grouping"])
    document |= {"match": _reached(match, report), "commit": commit}
    files.write_json(folder / "fit.json", document)
    log.info(
        "%s: %d networks in %.1f s, critical path %.1f s, val MSR %.4f",
        folder,
        len(report.networks),
        report.total_seconds,
        report.critical_path_seconds,
        np.mean(predictions.probabilities.argmax(axis=1) == shards.val.labels),
    )


def _reached(match: Mapping[str, Any] | None, report: FitReport) -> Mapping[str, Any] | None:
    """What a control of equal training has really cost: it may have stopped before its time."""
    if match is None or match["equal"] != "train_flops":
        return match
    reached = sum(network.train_flops for network in report.networks)
    return {**match, "reached": reached, "ratio": reached / match["wanted"]}


def _tree(grouping: str | None, shards: DataModule, folder: Path) -> nx.DiGraph:
    if grouping is None:
        return hierarchy.flat(len(shards.labels))
    found = document.read(folder, grouping)
    if found.get("labels") != list(shards.labels):
        raise BadHierarchy(
            f"{folder / grouping}.json groups other labels than the shards hold. Run stages 'flat' "
            "and 'clustering' again on these shards."
        )
    return document.tree(found)


def _flat_network(folder: Path, *, root_sha256: str) -> Mapping[str, Tensor] | None:
    """Returns the tensors of the flat network of this seed, or None if it was not trained."""
    path = folder / "weights.safetensors"
    if not path.exists():
        return None
    facts = files.read_json(folder / "model.json", stage="flat")
    if facts.get("root_sha256") != root_sha256:
        raise BadCheckpoint(
            f"{folder} was trained on the shards {str(facts.get('root_sha256'))[:12]}…, and these "
            f"are {root_sha256[:12]}…: it may have seen what is validated or tested here. Run stages "
            "'flat' and 'clustering' again."
        )
    return checkpoint.under("network", checkpoint.load(path)[0])


def describe(
    settings: RunSettings, *, name: str, seed: int, shards: DataModule, tree: nx.DiGraph, mean: Any
) -> dict[str, Any]:
    """Returns what model.json says of a run; `mean` is the list of its channels' means."""
    return {
        "method": settings.method,
        "grouping": settings.grouping,
        "run": name,
        "seed": seed,
        "labels": list(shards.labels),
        "hierarchy": hierarchy.to_json(tree),
        "params": settings.document(),
        "backbone": settings.backbone.name,
        "side": shards.side,
        "mean": mean,
        "root_sha256": shards.root_sha256,
        "versions": _versions(),
    }


def _key(facts: Mapping[str, Any], start: Mapping[str, Tensor] | None, device: torch.device) -> str:
    """A hash of all inputs; how many networks train at once and where images lie are none."""
    params = copy.deepcopy(facts["params"])
    del params["loop"]["jobs"], params["data"]["storage"]
    inputs = [{**facts, "params": params}, device.type, distributed.size()]
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode())
    for name, tensor in sorted((start or {}).items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
    }


def _fit_facts(
    report: FitReport, cost: Cost, device: torch.device, *, shares: Mapping[str, float]
) -> dict[str, Any]:
    named = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    return {
        "networks": [asdict(network) for network in report.networks],
        "total_seconds": report.total_seconds,
        "critical_path_seconds": report.critical_path_seconds,
        "cost": {
            "params": cost.params,
            "macs": dict(cost.macs),
            "macs_max": cost.macs_max,
            "macs_expected": cost.macs_expected(shares),
            "shares": dict(shares),
        },
        "device": device.type,
        "device_name": named,
        "threads": torch.get_num_threads(),
        "processes": distributed.size(),
        "cpu_cores": os.cpu_count(),
        "versions": _versions(),
    }


def _write_curves(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with files.whole_file(path, text=True, newline="") as file:
        writer = csv.DictWriter(file, _CURVES, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        file.flush()
        os.fsync(file.fileno())
