"""
Stage `evaluate`: writes predictions.parquet, metrics.json and cost.json of a trained run.

This stage alone reads the test shards. `report` computes the figures that need a reference tree, from
the stored probabilities. Measured times differ between two evaluations, so only cost.json holds them.
data/evaluate/SEED/RUN.json is written last, with a hash of each file: `report` depends on that folder,
because a DVC stage cannot name its dependencies by a list of parameters.
"""

import hashlib
import logging
import math
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from personae import files, tables
from train import saved
from train.classifier import HierarchicalClassifier
from train.data.images import ImageSet, open_split
from train.data.source import open_index
from train.documents import (
    CostDocument,
    FitDocument,
    LatencyDocument,
    MetricsDocument,
)
from train.engine import loop
from train.evaluation import calibration, latency, metrics, prediction
from train.evaluation.prediction import Predictions
from train.params.data import Params as DataParams
from train.params.evaluate import Params
from train.params.loop import Params as LoopParams
from train.tree import hierarchy

log = logging.getLogger(__name__)


def run(
    params: Params,
    *,
    loop_params: LoopParams,
    name: str,
    seed: int,
    data_dir: Path,
    results_dir: Path,
    work_dir: Path,
    source: DataParams | None = None,
) -> MetricsDocument:
    """
    Writes predictions, metrics and cost of the run `name`, and returns the metrics.

    `source` says where the shards are read and the decoded images kept; None: in the data folder,
    and in a cache.

    Raises:
        MissingInput: The run was not trained, or the shards are absent.
        BadDocument: A JSON file has another shape.
        MixedResults: The run was trained on other shards.
        BadParams: The selection that the run was trained on has changed.
        AlreadyRunning: Another process trains or evaluates the run with this seed.
    """
    device = loop.prepare(loop_params)
    folder = results_dir / name / str(seed)
    receipt = data_dir / "evaluate" / str(seed) / f"{name}.json"
    files.check_writable(receipt.parent)
    with saved.reserved(folder, work_dir=work_dir):
        document = _run(params, device, folder, data_dir=data_dir, work_dir=work_dir, source=source)
        files.write_json(receipt, {path.name: _sha256(path) for path in sorted(folder.iterdir())})
    _log(name, seed, document)
    return document


def _run(
    params: Params,
    device: torch.device,
    folder: Path,
    *,
    data_dir: Path,
    work_dir: Path,
    source: DataParams | None,
) -> MetricsDocument:
    """Writes predictions.parquet, metrics.json and cost.json of the run in `folder`."""
    shards_dir, cache_dir = data_dir / "shards", work_dir / "cache"
    trained = saved.load(folder)
    classifier, model = trained.classifier, trained.model
    fit = FitDocument.read(folder / "fit.json")
    index = open_index(shards_dir, cache_dir, source, model.selection)
    where = (source and source.url) or str(shards_dir)
    model.check_shards(index.labels, index.manifest.root_sha256, folder=folder, where=where)
    classifier.to(device)
    opened = partial(
        open_split,
        shards_dir,
        cache_dir,
        storage="cache" if source is None else source.storage,
        selection=model.selection,
        source=source,
    )
    val, images = opened("val"), opened("test")
    on_val = prediction.predict(classifier, val, device=device)
    predictions = prediction.predict(classifier, images, device=device)
    rows = [
        prediction.table(on_val, val, split="val"),
        prediction.table(predictions, images, split="test"),
    ]
    tables.write(folder / "predictions.parquet", pa.concat_tables(rows).sort_by("post_id"))
    calibrated = {}
    if not model.params.get("data", {}).get("train_on_val"):  # which show no calibration then
        temperature = calibration.fit_temperature(on_val.probabilities, val.labels)
        calibrated = scaled(predictions, images, temperature=temperature)
    document = MetricsDocument(
        **measure(classifier, predictions, images),
        **calibrated,
        **_of_views(params, trained, images, device=device),
        seconds_total=fit.total_seconds,
        seconds_critical=fit.critical_path_seconds,
    )
    document.write(folder / "metrics.json")
    cost(params, classifier, predictions, images, device=device).write(folder / "cost.json")
    return document


def _log(name: str, seed: int, document: MetricsDocument) -> None:
    white = (
        ""
        if document.msr_white is None
        else f", {document.msr_white:.4f} of {document.n_white} on white"
    )
    log.info(
        "%s seed %d: MSR %.4f of %d test images%s", name, seed, document.msr, document.n_test, white
    )


def _of_views(
    params: Params, trained: saved.Saved, images: ImageSet, *, device: torch.device
) -> dict[str, float]:
    """Returns the accuracy of the mean over several views of each image, where it is wanted."""
    classifier, model = trained.classifier, trained.model
    figures = {}
    if params.mirror:
        both = prediction.mirrored(classifier, images, device=device)
        figures["msr_mirrored"] = metrics.msr(images.labels, both.argmax(axis=1))
    crop = model.params.get("augment", {}).get("crop")
    if params.ten_views and crop is not None and crop < model.side:
        views = prediction.ten_views(classifier, images, side=crop, device=device)
        figures["msr_ten_views"] = metrics.msr(images.labels, views.argmax(axis=1))
    return figures


def measure(
    classifier: HierarchicalClassifier, predictions: Predictions, images: ImageSet
) -> dict[str, Any]:
    """
    Returns the figures of one split under the names of metrics.json; None where undefined.

    The router is correct if the cluster with its largest probability holds the label. `oracle_msr`
    is None where clusters overlap, because a label then has no single correct cluster.
    """
    labels, probabilities = images.labels, predictions.probabilities
    predicted = probabilities.argmax(axis=1)
    white = images.white
    cost = classifier.cost()
    figures: dict[str, float | None] = {
        "msr": metrics.msr(labels, predicted),
        "msr_macro": metrics.msr_macro(labels, predicted, leaves=probabilities.shape[1]),
        "msr_white": metrics.msr(labels[white], predicted[white]),
        "top5": metrics.top_k(probabilities, labels, k=5),
        "nll": calibration.nll(probabilities, labels),
        "brier": calibration.brier(probabilities, labels),
        "ece": calibration.ece(probabilities.max(axis=1), predicted == labels),
        "n_test": len(labels),
        "n_white": int(white.sum()),
        "macs_expected": cost.macs_expected(predictions.executed),
        "macs_max": cost.macs_max,
        "params": cost.params,
    }
    if predictions.full is not None and predictions.coarse is not None:
        groups = hierarchy.clusters(classifier.hierarchy)
        members = hierarchy.membership(groups, probabilities.shape[1])
        routed = predictions.coarse.argmax(axis=1)
        is_partition = bool((members.sum(axis=0) == 1).all())
        figures |= {
            "msr_full": metrics.msr(labels, predictions.full.argmax(axis=1)),
            "route_msr": figures["msr"],
            "router_accuracy": float(np.mean(members[routed, labels])),
            "oracle_msr": (
                metrics.oracle_routing(predictions.full, labels, hierarchy.parents(groups))
                if is_partition
                else None
            ),
        }
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in figures.items()
    }


def scaled(
    predictions: Predictions, images: ImageSet, *, temperature: float
) -> dict[str, float | None]:
    """Returns the temperature, and NLL and ECE of the probabilities at it; None without images."""
    if not len(images):
        return {"temperature": temperature, "nll_scaled": None, "ece_scaled": None}
    at = calibration.at_temperature(predictions.probabilities, temperature)
    correct = at.argmax(axis=1) == images.labels
    return {
        "temperature": temperature,
        "nll_scaled": calibration.nll(at, images.labels),
        "ece_scaled": calibration.ece(at.max(axis=1), correct),
    }


def cost(
    params: Params,
    classifier: HierarchicalClassifier,
    predictions: Predictions,
    images: ImageSet,
    *,
    device: torch.device,
) -> CostDocument:
    """Returns cost.json: the cost of a prediction, counted, and measured on these images."""
    counted = classifier.cost()
    latency.reset_peak_memory(device)
    load = latency.load()
    measured = [
        latency.measure(
            classifier,
            latency.inputs_of(images, batch=batch, device=device),
            warm_up=params.latency_warm_up,
            calls=params.latency_calls,
            seconds=params.latency_seconds,
        )
        for batch in params.latency_batches
    ]
    for row in measured:
        log.info(
            "batch %d on %s: median %.2f ms, p95 %.2f ms of %d calls, %.0f images a second",
            row.batch,
            device,
            row.median_ms,
            row.p95_ms,
            row.calls,
            row.pictures_per_second,
        )
    figures: dict[str, Any] = {**latency.peak_memory(device), **latency.machine(device)}
    return CostDocument(
        params=counted.params,
        params_resident=latency.params_resident(classifier),
        macs=dict(counted.macs),
        macs_max=counted.macs_max,
        macs_expected=counted.macs_expected(predictions.executed),
        shares=predictions.executed,
        load=load,
        latency=tuple(LatencyDocument(**asdict(row)) for row in measured),
        **figures,
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
