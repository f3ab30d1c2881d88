"""
Stage `evaluate`: a trained run to predictions.parquet, metrics.json and cost.json.

The only reader of the test shards. Computes what needs no reference tree; tree-aware figures are
`report`'s, from the stored probabilities, equally for every method. What is timed differs from run
to run, so it stands in cost.json alone. data/evaluate/SEED/RUN.json, written last, holds a hash of each file:
`report` waits for that folder, because a stage cannot name files by a list of parameters.
"""

import hashlib
import logging
import math
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import torch
from pydantic import BaseModel, ConfigDict, Field

from personae import files, tables
from train import saved
from train.classifier import HierarchicalClassifier
from train.data.images import ImageSet, open_split
from train.engine import loop
from train.errors import BadCheckpoint
from train.evaluation import latency, metrics, prediction
from train.evaluation.prediction import Predictions
from train.tree import hierarchy

log = logging.getLogger(__name__)


class Params(BaseModel):
    """Section `evaluate`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mirror: bool = Field(
        default=False,
        description="also judge the mean over each image and its mirror image (msr_mirrored)",
    )
    latency_batches: tuple[Annotated[int, Field(ge=1, le=65_536)], ...] = Field(
        (1, 256), description="images per timed call: alone, as a person asks, and many at once"
    )
    latency_warm_up: int = Field(50, ge=0, description="calls before the timed ones, at most")
    latency_calls: int = Field(200, ge=1, description="timed calls, at most")
    latency_seconds: float = Field(
        3.0,
        gt=0,
        le=3600,
        description="time for each batch size after which no call starts; "
        "300 lets every call happen even on a slow CPU",
    )


def run(
    params: Params,
    *,
    loop_params: loop.Params,
    name: str,
    seed: int,
    data_dir: Path,
    results_dir: Path,
    work_dir: Path,
) -> dict[str, Any]:
    """
    Writes predictions, metrics and cost of the run `name`, and returns the metrics.

    Raises:
        MissingInput: The run was not trained, or the shards are absent.
        BadCheckpoint: The run was trained on other labels than the shards hold.
    """
    device = loop.prepare(loop_params)
    folder = results_dir / name / str(seed)
    run_saved = saved.load(folder)
    classifier, facts = run_saved.classifier, run_saved.facts
    fit_facts = files.read_json(folder / "fit.json", stage="fit")
    manifest = files.read_json(data_dir / "shards" / "manifest.json", stage="shards")
    if manifest.get("root_sha256") != facts["root_sha256"]:
        raise BadCheckpoint(
            f"{folder} was trained on the shards {facts['root_sha256'][:12]}…, and "
            f"{data_dir / 'shards'} holds {str(manifest.get('root_sha256'))[:12]}…. Train again."
        )
    classifier.to(device)
    tables_found = []
    for split in ("val", "test"):
        pictures = open_split(data_dir / "shards", work_dir / "cache", split)
        predictions = prediction.predict(classifier, pictures, device=device)
        tables_found.append(prediction.table(predictions, pictures, split=split))
    joined = pa.concat_tables(tables_found).sort_by("post_id")
    tables.write(folder / "predictions.parquet", joined)
    figures = measure(classifier, predictions, pictures) | {
        "seconds_total": fit_facts["total_seconds"],
        "seconds_critical": fit_facts["critical_path_seconds"],
    }
    if params.mirror:
        both = prediction.mirrored(classifier, pictures, device=device)
        figures["msr_mirrored"] = metrics.msr(pictures.labels, both.argmax(axis=1))
    files.write_json(folder / "metrics.json", figures)
    log.info(
        "%s seed %d: MSR %.4f of %d test images, %s of %d on white",
        name,
        seed,
        figures["msr"],
        figures["n_test"],
        figures["msr_white"],
        figures["n_white"],
    )
    files.write_json(
        folder / "cost.json", cost(params, classifier, predictions, pictures, device=device)
    )
    receipt = data_dir / "evaluate" / str(seed) / f"{name}.json"
    files.write_json(receipt, {one.name: _sha256(one) for one in sorted(folder.iterdir())})
    return figures


def measure(
    classifier: HierarchicalClassifier, predictions: Predictions, pictures: ImageSet
) -> dict[str, Any]:
    """
    Returns the figures of one split under the names of metrics.json; null where undefined.

    A router is right where the cluster that it prefers holds the label; where clusters overlap that
    may be several, and there is no oracle, which would be given the one.
    """
    labels, probabilities = pictures.labels, predictions.probabilities
    predicted = probabilities.argmax(axis=1)
    white = pictures.white
    cost = classifier.cost()
    figures: dict[str, float | None] = {
        "msr": metrics.msr(labels, predicted),
        "msr_macro": metrics.msr_macro(labels, predicted, leaves=probabilities.shape[1]),
        "msr_white": metrics.msr(labels[white], predicted[white]),
        "top5": metrics.top_k(probabilities, labels, k=5),
        "nll": metrics.nll(probabilities, labels),
        "ece": metrics.ece(probabilities.max(axis=1), predicted == labels),
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
        # Where sets overlap, no one cluster of a label could be given.
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


def cost(
    params: Params,
    classifier: HierarchicalClassifier,
    predictions: Predictions,
    pictures: ImageSet,
    *,
    device: torch.device,
) -> dict[str, Any]:
    """Returns what a prediction costs, counted and measured on these images, as in cost.json."""
    counted = classifier.cost()
    latency.reset_peak_memory(device)
    measured = [
        latency.measure(
            classifier,
            latency.inputs_of(pictures, batch=batch, device=device),
            warm_up=params.latency_warm_up,
            calls=params.latency_calls,
            seconds=params.latency_seconds,
        )
        for batch in params.latency_batches
    ]
    for some in measured:
        log.info(
            "batch %d on %s: median %.2f ms, p95 %.2f ms of %d calls, %.0f images a second",
            some.batch,
            device,
            some.median_ms,
            some.p95_ms,
            some.calls,
            some.pictures_per_second,
        )
    return {
        "params": counted.params,
        "params_resident": latency.params_resident(classifier),
        "macs": dict(counted.macs),
        "macs_max": counted.macs_max,
        "macs_expected": counted.macs_expected(predictions.executed),
        "shares": predictions.executed,
        "latency": [asdict(some) for some in measured],
        **latency.peak_memory(device),
        **latency.machine(device),
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
