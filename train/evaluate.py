"""
Stage `evaluate`: a trained run to predictions.parquet and metrics.json.

The only reader of the test shards. Computes what needs no reference tree; tree-aware figures are
`report`'s, from the stored probabilities, equally for every method.
"""

import logging
import math
from pathlib import Path
from typing import Any

import pyarrow as pa

from train import saved, tables
from train.components import data, hierarchy, loop, metrics, prediction
from train.components.classifier import HierarchicalClassifier
from train.components.data import Pictures
from train.components.prediction import Predictions
from train.errors import BadCheckpoint

log = logging.getLogger(__name__)


def run(
    params: loop.Params, *, name: str, seed: int, data_dir: Path, results_dir: Path, work_dir: Path
) -> dict[str, Any]:
    """
    Writes predictions and metrics of the run `name`, and returns the metrics.

    Raises:
        MissingInput: The run was not trained, or the shards are absent.
        BadCheckpoint: The run was trained on other labels than the shards hold.
    """
    device = loop.prepare(params)
    folder = results_dir / name / str(seed)
    run_saved = saved.load(folder)
    classifier, facts = run_saved.classifier, run_saved.facts
    fit_facts = saved.read_json(folder / "fit.json", stage="fit")
    manifest = saved.read_json(data_dir / "shards" / "manifest.json", stage="shards")
    if manifest.get("root_sha256") != facts["root_sha256"]:
        raise BadCheckpoint(
            f"{folder} was trained on the shards {facts['root_sha256'][:12]}…, and "
            f"{data_dir / 'shards'} holds {str(manifest.get('root_sha256'))[:12]}…. Train again."
        )
    classifier.to(device)
    tables_found = []
    for split in ("val", "test"):
        pictures = data.open_split(data_dir / "shards", work_dir / "cache", split)
        predictions = prediction.predict(classifier, pictures, device=device)
        tables_found.append(prediction.table(predictions, pictures, split=split))
    joined = pa.concat_tables(tables_found).sort_by("post_id")
    tables.write(folder / "predictions.parquet", joined)
    figures = measure(classifier, predictions, pictures) | {
        "seconds_total": fit_facts["total_seconds"],
        "seconds_critical": fit_facts["critical_path_seconds"],
    }
    saved.write_json(folder / "metrics.json", figures)
    log.info(
        "%s seed %d: MSR %.4f of %d test pictures, %s of %d on white", name, seed, figures["msr"],
        figures["n_test"], figures["msr_white"], figures["n_white"],
    )  # fmt: skip
    return figures


def measure(
    classifier: HierarchicalClassifier, predictions: Predictions, pictures: Pictures
) -> dict[str, Any]:
    """Returns the figures of one split under the names of metrics.json; null where undefined."""
    labels, probabilities = pictures.labels, predictions.probabilities
    predicted = probabilities.argmax(axis=1)
    white = pictures.white
    cost = classifier.cost()
    shares = classifier.shares(predictions.coarse)
    figures = {
        "msr": metrics.msr(labels, predicted),
        "msr_macro": metrics.msr_macro(labels, predicted, leaves=probabilities.shape[1]),
        "msr_white": metrics.msr(labels[white], predicted[white]),
        "top5": metrics.top_k(probabilities, labels, k=5),
        "nll": metrics.nll(probabilities, labels),
        "ece": metrics.ece(probabilities.max(axis=1), predicted == labels),
        "n_test": len(labels),
        "n_white": int(white.sum()),
        "macs_expected": cost.macs_expected(shares),
        "macs_max": cost.macs_max,
        "params": cost.params,
    }
    if predictions.full is not None and predictions.coarse is not None:
        parents = hierarchy.parents(hierarchy.clusters(classifier.hierarchy))
        routed = predictions.coarse.argmax(axis=1)
        figures |= {
            "msr_full": metrics.msr(labels, predictions.full.argmax(axis=1)),
            "route_msr": figures["msr"],
            "router_accuracy": metrics.msr(parents[labels], routed),
            "oracle_msr": metrics.oracle_routing(predictions.full, labels, parents),
        }
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in figures.items()
    }
