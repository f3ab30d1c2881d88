"""The complete JSON documents of one evaluated run, with small numbers."""

METRICS = {
    "msr": 0.5,
    "msr_white": 0.25,
    "msr_macro": 0.5,
    "top5": 1.0,
    "nll": 1.5,
    "ece": 0.1,
    "n_test": 16,
    "n_white": 4,
    "params": 458_508,
    "macs_expected": 26_758_144.0,
    "macs_max": 26_758_144,
    "seconds_total": 71.4,
    "seconds_critical": 60.2,
}
CALLS = {"warm_up": 1, "calls": 2, "p95_ms": 300.0, "pictures_per_second": 1000.0}
COST = {
    "params": 458_508,
    "params_resident": 458_600,
    "macs": {"root": 26_758_144},
    "macs_max": 26_758_144,
    "macs_expected": 26_758_144.0,
    "shares": {"root": 1.0},
    "latency": [
        {"batch": 1, "median_ms": 2.5, **CALLS},
        {"batch": 256, "median_ms": 250.0, **CALLS},
    ],
    "peak_memory_mib": 512.0,
    "peak_memory_of": "resident set",
    "device": "cpu",
    "device_name": "x86_64",
    "precision": "float32",
    "threads": 1,
}

NETWORK = {
    "network": "root",
    "seconds": 1.0,
    "waiting_seconds": 0.1,
    "epochs": 2,
    "discarded_epochs": 0,
    "images_seen": 32,
    "pictures": 16,
    "train_flops": 1e6,
    "params": 9,
    "stopped_by": "epochs",
    "peak_memory_mib": 100.0,
    "waits_for": None,
}
COUNTED = {
    "params": 9,
    "macs": {"root": 10},
    "macs_max": 10,
    "macs_expected": 10.0,
    "shares": {"root": 1.0},
}
FIT = {
    "networks": [NETWORK],
    "total_seconds": 1.0,
    "critical_path_seconds": 1.0,
    "cost": COUNTED,
    "device": "cpu",
    "device_name": "x86_64",
    "threads": 1,
    "processes": 1,
    "cpu_cores": 2,
    "versions": {"torch": "2"},
    "needs_flat": True,
    "match": None,
    "commit": "abc1234",
}
MANIFEST = {
    "root_sha256": "a",
    "labels": 4,
    "samples": {"test": 8},
    "image": {"side": 16, "format": "png"},
    "shards": [{"shard": "test-000000.tar", "split": "test", "samples": 8, "sha256": "b"}],
}


def record(**changes):
    """Returns a record of the run `flat`."""
    data = {name: MANIFEST[name] for name in ("root_sha256", "labels", "samples", "image")}
    return {
        "preset": "demo",
        "run": "flat",
        "seed": 0,
        "metrics": METRICS,
        "cost": COST,
        "fit": FIT,
        "params": {"loop": {"epochs": 2}},
        "data": data,
        "machine": {"cpu_cores": 2, "architecture": "x86_64"},
        "commit": "abc1234",
        "commands": ["dvc repro"],
    } | changes
