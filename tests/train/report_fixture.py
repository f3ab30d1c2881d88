"""Writes a small results folder in the format of the stages: labels, runs, seeds, shards."""

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.train.report_data_fixture import (
    ROOT_HASH,
    SIDE,
    image_bytes,
    write_catalog,
    write_curves,
    write_json,
    write_shards,
)
from train.page import answer, comparison, results
from train.report import Params
from train.tree import hierarchy

HOSTILE = (
    "<script>alert(1)</script>",
    'a"onload=x',
    "--><img src=http://x/y.png>&amp;$x^2$",
    "=cmd|' /C calc'!A1",
)
LABELS = (*HOSTILE, *(f"persona_{number}" for number in range(4, 12)))
CLUSTERS = ((0, 3, 4), (1, 5, 6), (2, 7, 8, 9), (10,), (11,))
TREES = {
    "modularity": [[0, 3, 4], [1, 5, 6], [2, 7, 8, 9], [10], [11]],
    "random": [[0, 5, 10], [1, 2, 11], [3, 6, 7, 9], [4], [8]],
    "random_1": [[1, 5, 9], [0, 2, 3], [4, 6, 8, 10], [7], [11]],
    "given": [[[0, 3], [4, 1], 5], [[2, 7], 6, 8, 9], [10, 11]],
}


def asked(method, grouping=None, like=None, equal=None, gain=None):
    """Builds an entry of section `runs`; `gain` overrides the gain of the folder."""
    return SimpleNamespace(method=method, grouping=grouping, like=like, equal=equal, gain=gain)


RUNS = {
    "uppsala": asked("uppsala", "modularity"),
    "uppsala_random": asked("uppsala", "random"),
}
EXPERIMENTS = {
    **RUNS,
    "uppsala_random_1": asked("uppsala", "random_1"),
    "uppsala_deep": asked("uppsala", "given"),
    "uppsala_train_flops": asked("flat", None, "uppsala", "train_flops"),
    "uppsala_macs": asked("flat", None, "uppsala", "macs"),
    "uppsala_params": asked("flat", None, "uppsala", "params"),
    "uppsala_ensemble": asked("ensemble", None, "uppsala", "params"),
    "hiernet": asked("hiernet", "modularity"),
}
OTHERS = {  # the methods of the other three papers
    "hdcnn": asked("hdcnn", "modularity"),
    "merged": asked("merged", "given"),
    "merged_apart": asked("merged", "given", gain=0.0),
    "merged_0": asked("merged", "given", gain=0.0),
    "merged_1": asked("merged", "given"),
    "merged_3": asked("merged", "given", gain=2.0),
    "dhnn": asked("dhnn", "given"),
}
CONTROLLED = {  # one hierarchy with every control that a verdict needs
    **RUNS,
    **{
        f"uppsala_{equal}": asked("flat", None, "uppsala", equal)
        for equal in ("train_flops", "macs", "params")
    },
    "uppsala_ensemble": asked("ensemble", None, "uppsala", "ensemble"),
}
EQUAL = dict.fromkeys(CONTROLLED, (100, 101))  # as MATCHES, each within 5 %
MATCHES = {  # (wanted, reached); uppsala_params has no recorded match, like older records
    "uppsala_train_flops": (2.0e14, 2.02e14),
    "uppsala_macs": (5.1e6, 5.1e6),
    "uppsala_ensemble": (4.0e5, 4.4e5),
}
LATENCY = {"flat": (2.0, 51.2), "uppsala": (3.5, 102.4)}  # of seed 0; each seed adds 50 %
FINDER = "finder-0"  # a network of the deep run that only predicts the clusters
ROUTING = ("router_accuracy", "oracle_msr", "route_msr", "msr_full")
MERGES = {"merged_0": 0, "merged_1": 1, "merged_3": 3}  # shared stages; other runs share two


@dataclass(frozen=True)
class Folder:
    """The folders of a results fixture, with its seeds, runs and labels."""

    data_dir: Path
    results_dir: Path
    seeds: tuple[int, ...]
    runs: dict[str, Any]
    labels: tuple[str, ...]

    @property
    def report_dir(self) -> Path:
        return self.results_dir / "report"


def write(
    root: Path,
    *,
    seeds: tuple[int, ...] = (0, 1),
    each: int = 30,
    gain: float = 0.6,
    random_gain: float = 0.0,
    equal_gain: float = 0.0,
    catalog: bool = True,
    runs: dict[str, Any] = RUNS,
    labels: tuple[str, ...] = LABELS,
    trees: dict[str, Any] = TREES,
    matches: dict[str, tuple[float, float]] = MATCHES,
    draw: Callable[[int, int], bytes] = image_bytes,
    side: int = SIDE,
) -> Folder:
    """
    Writes results of a flat run and of `runs` with `each` test images per label.

    `gain`, `random_gain` and `equal_gain` raise the logit of the true label: for hierarchies, for
    hierarchies with random groups, and for cost-matched controls. `matches` has the cost that a
    control aimed at and the cost that it reached, by run. `draw` returns the image of a leaf and a
    post as PNG, with `side` pixels.
    """
    folder = Folder(root / "data", root / "results", seeds, runs, labels)
    leaves = np.repeat(np.arange(len(labels)), each + each // 2)
    split = np.tile(["test"] * each + ["val"] * (each // 2), len(labels))
    post_id = np.random.default_rng(7).permutation(len(leaves)) + 1000
    order = np.argsort(post_id)
    images = {"post_id": post_id[order], "label": leaves[order], "split": split[order]}
    images["white"] = images["post_id"] % 3 == 0
    write_shards(folder.data_dir / "shards", images, labels, draw=draw, side=side)
    for seed in seeds:
        for name, tree in trees.items():
            _grouping(folder, name, tree, seed)
        _run(folder, "flat", asked("flat"), trees, seed=seed, images=images, surer=0.0)
        for run, entry in runs.items():
            surer = gain if entry.grouping else equal_gain
            surer = random_gain if (entry.grouping or "").startswith("random") else surer
            surer = surer if entry.gain is None else entry.gain
            _run(folder, run, entry, trees, seed=seed, images=images, surer=surer)
            if run in matches and entry.like:
                _match(folder.results_dir / run / str(seed) / "fit.json", entry, *matches[run])
    if catalog:
        write_catalog(folder.data_dir / "catalog" / "catalog.duckdb")
    return folder


def arguments(folder: Folder, **changed: Any) -> dict[str, Any]:
    """Returns the arguments of `report.run` for this folder."""
    return {
        "params": Params(samples=4, resamples=500),
        "data_dir": folder.data_dir,
        "results_dir": folder.results_dir,
        "runs": folder.runs,
        "seeds": folder.seeds,
        **changed,
    }


def read(folder: Folder) -> results.Results:
    """Reads the results of this folder as the report does."""
    return results.read(
        data_dir=folder.data_dir,
        results_dir=folder.results_dir,
        runs=folder.runs,
        seeds=folder.seeds,
    )


def compare(folder: Folder) -> tuple[results.Results, comparison.RunComparison]:
    """Returns the results and their comparison, with few resamples."""
    loaded = read(folder)
    return loaded, comparison.compare(loaded, resamples=300, seed=0)


def _run(folder, run, entry, trees, *, seed, images, surer) -> None:
    out = folder.results_dir / run / str(seed)
    out.mkdir(parents=True)
    leaves = len(folder.labels)
    tree = trees[entry.grouping] if entry.grouping else None
    graph = hierarchy.from_nested(tree, leaves) if tree else hierarchy.flat(leaves)
    family = hierarchy.clusters(hierarchy.from_nested(trees["modularity"], leaves))
    clusters = hierarchy.clusters(graph) if tree else None
    outputs = _outputs(run, clusters, family, seed=seed, label=images["label"], surer=surer)
    _predictions(out / "predictions.parquet", images, *outputs)
    networks = [data["net"] for _, data in graph.nodes(data=True) if data["net"]]
    if entry.method == "hiernet":
        networks = ["root"]
    write_json(out / "model.json", _model(folder.labels, run, entry, graph, seed=seed))
    write_json(out / "metrics.json", _metrics(networks, has_clusters=clusters is not None))
    if run in LATENCY:
        write_json(out / "cost.json", _cost(LATENCY[run], slower=1 + seed / 2))
    if run == "uppsala_deep":
        networks.append(FINDER)
    fit = _fit(networks, graph, critical_path_seconds=39.0 if clusters else 20.0)
    write_json(out / "fit.json", fit)
    write_curves(out / "curves.csv", networks)


def _model(labels, run, entry, graph, *, seed) -> dict[str, Any]:
    """Returns model.json of a run."""
    return {
        "method": entry.method,
        "run": run,
        "seed": seed,
        "labels": list(labels),
        "hierarchy": hierarchy.to_json(graph),
        "params": {
            "loop": {"recipe": "fast"},
            entry.method: {
                "merge": MERGES.get(run, 2),
                "separate": run.endswith("_apart"),
            },
        },
        "backbone": "resnet32" if entry.method == "hiernet" else "uppsala_cnn",
        "grouping": entry.grouping,
        "side": 32,
        "mean": [0.5, 0.5, 0.5],
        "root_sha256": ROOT_HASH,
        "versions": {"torch": "2.13.0"},
    }


def _metrics(networks: list[str], *, has_clusters: bool) -> dict[str, Any]:
    """Returns metrics.json of a run; only a run with clusters routes."""
    return {
        **dict.fromkeys(("msr", "msr_macro", "msr_white", "top5", "nll", "ece"), 0.5),
        **dict.fromkeys(("n_test", "n_white"), 100),
        **dict.fromkeys(("seconds_total", "seconds_critical"), 20.0),
        "params": 190_000 + 70_000 * (len(networks) - 1),
        "macs_expected": 5.1e6 if has_clusters else 5e6,
        "macs_max": 5_400_000 if has_clusters else 5_000_000,
        **(dict.fromkeys(ROUTING, 0.625) if has_clusters else {}),
    }


def _cost(latencies: tuple[float, float], *, slower: float) -> dict[str, Any]:
    """Returns cost.json with the latencies of 1 and of 256 images, `slower` times as long."""
    rows = [
        {
            "batch": batch,
            "warm_up": 50,
            "calls": 200,
            "median_ms": slower * took,
            "p95_ms": 2 * slower * took,
            "pictures_per_second": 1000 * batch / (slower * took),
        }
        for batch, took in zip((1, 256), latencies, strict=True)
    ]
    counted = {"params": 1, "params_resident": 1, "macs": {}, "macs_max": 1, "shares": {}}
    measured = {"peak_memory_mib": 1.0, "peak_memory_of": "process", "precision": "float32"}
    machine = {"device": "cpu", "device_name": "x86_64", "threads": 2}
    return {**counted, **measured, **machine, "macs_expected": 1.0, "latency": rows}


def _match(path: Path, entry: Any, wanted: float, reached: float) -> None:
    costs = {"wanted": wanted, "reached": reached, "ratio": reached / wanted}
    fit = json.loads(path.read_text())
    write_json(path, fit | {"match": {"like": entry.like, "equal": entry.equal, **costs}})


def _outputs(run, clusters, families, *, seed, label, surer):
    """Draws predicted, full and cluster probabilities; without clusters the last two are None."""
    family = hierarchy.parents(families)
    leaves = len(family)
    rng = np.random.default_rng([seed, zlib.crc32(run.encode())])
    shared = np.random.default_rng(seed).normal(0, 1.0, (len(label), leaves))
    logits = shared + rng.normal(0, 0.5, (len(label), leaves))
    logits += 1.4 * (family[label][:, None] == family[None, :])
    logits[np.arange(len(label)), label] += 1.3 + surer
    full = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if clusters is None:
        return full, None, None
    coarse = np.stack([full[:, list(entry)].sum(axis=1) for entry in clusters], axis=1)
    inside = hierarchy.parents(clusters)[None, :] == coarse.argmax(axis=1)[:, None]
    probabilities = np.where(inside, full, 0)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return probabilities, full, coarse


def _predictions(path: Path, images, probabilities, full, coarse) -> None:
    nothing = pa.nulls(len(probabilities), pa.list_(pa.float32()))
    columns = {
        "post_id": pa.array(images["post_id"]),
        "split": pa.array(images["split"]),
        "white_background": pa.array(images["white"]),
        "label": pa.array(images["label"].astype(np.int32)),
        "predicted": pa.array(probabilities.argmax(axis=1).astype(np.int32)),
        "probabilities": _lists(probabilities),
        "full": nothing if full is None else _lists(full),
        "coarse": nothing if coarse is None else _lists(coarse),
    }
    pq.write_table(pa.table(columns), path)


def _fit(networks: list[str], graph: Any, *, critical_path_seconds: float) -> dict[str, Any]:
    """Returns fit.json of networks trained one after the other; each takes a second less."""
    above = {name: next(iter(graph.predecessors(name)), None) for name in networks if name in graph}
    seconds = [20.0 - index for index in range(len(networks))]
    return {
        "networks": [
            {
                "network": network,
                "seconds": took,
                "waiting_seconds": 0.0,
                "images_seen": 14_400,
                "params": 70_000,
                "pictures": 1200,
                "epochs": 12,
                "discarded_epochs": 2,
                "train_flops": 1e12 * took,
                "stopped_by": "epochs",
                "waits_for": above.get(network, "root"),
            }
            for network, took in zip(networks, seconds, strict=True)
        ],
        "total_seconds": sum(seconds),
        "critical_path_seconds": critical_path_seconds,
        "cost": {"params": 190_000, "macs": {}, "macs_max": 1, "macs_expected": None},
        "device": "cpu",
        "device_name": "x86_64",
        "threads": 2,
        "processes": 1,
        "cpu_cores": 2,
        "versions": {"torch": "2.13.0"},
    }


def _lists(values: np.ndarray) -> pa.Array:
    return pa.array(values.astype(np.float32).tolist(), pa.list_(pa.float32()))


def _grouping(folder: Folder, name: str, tree: Any, seed: int) -> None:
    leaves = len(folder.labels)
    clusters = hierarchy.clusters(hierarchy.from_nested(tree, leaves))
    everything = [list(range(leaves))]
    sweep = [
        {
            "gamma": 1.1,
            "clusters": clusters,
            "micp": 0.8,
            "excess": 0.2,
            "selected": True,
            "refused": None,
        },
        {
            "gamma": 1.0,
            "clusters": clusters,
            "micp": 0.8,
            "excess": 0.2,
            "selected": False,
            "refused": None,
        },
        {
            "gamma": 0.1,
            "clusters": everything,
            "micp": 1.0,
            "excess": 0.0,
            "selected": False,
            "refused": "one_cluster",
        },
    ]
    write_json(
        folder.data_dir / "clustering" / str(seed) / f"{name}.json",
        {
            "grouping": name,
            "seed": seed,
            "labels": list(folder.labels),
            "clusters": clusters,
            "tree": tree,
            "gamma": 1.1,
            "stability": 0.91,
            "sweep": sweep if name == "modularity" else [],
        },
    )


def say(folder):
    """Returns the report's answer for these results."""
    loaded, compared = compare(folder)
    return answer.write(compared, images=len(loaded.white))
