"""Test images are not used before the evaluation: a check of the ids of each stage."""

import hashlib
import json

import pyarrow.parquet as pq

from train import backbone, clustering, evaluate, fit
from train.data import augment, images
from train.data.images import open_data
from train.engine import loop
from train.methods import METHODS

NETWORK = backbone.Params(
    widths=(8, 16, 16, 16, 16), dense=32, batch_norm=True, dropout=0.0, init="he"
)
LOOP = loop.Params(epochs=2, lr=0.05, threads=1, device="cpu")
QUICK = evaluate.Params(latency_batches=(1,), latency_calls=1, latency_seconds=1)


def digest(post_ids):
    return hashlib.sha256(",".join(map(str, sorted(post_ids))).encode()).hexdigest()


def test_test_pictures_are_disjoint_from_all_that_was_used(tiny_shards, tmp_path):
    """Training, early stopping and clusters use only train and val ids; metrics only test ids."""
    places = {
        "data_dir": tmp_path / "data",
        "results_dir": tmp_path / "results",
        "work_dir": tmp_path / "work",
    }

    def settings(method, grouping=None):
        return fit.RunSettings(
            method=method,
            grouping=grouping,
            own=METHODS[method].Params(),
            data=images.Params(batch_size=16),
            augment=augment.Params(),
            backbone=NETWORK,
            loop=LOOP,
        )

    fit.run(settings("flat"), name="flat", seed=0, **places)
    clustering.run(
        clustering.Params(confusion="soft", bootstrap=2),
        data_dir=places["data_dir"],
        results_dir=places["results_dir"],
        seed=0,
    )
    fit.run(settings("uppsala", "random"), name="tree", seed=0, **places)
    evaluate.run(QUICK, loop_params=LOOP, name="tree", seed=0, **places)
    seen = open_data(tiny_shards, tmp_path / "work" / "cache")
    trained, stopped = set(seen.train.post_ids.tolist()), set(seen.val.post_ids.tolist())
    run = tmp_path / "results"
    clustered = pq.read_table(run / "flat" / "0" / "validation.parquet")["post_id"].to_pylist()
    rows = pq.read_table(run / "tree" / "0" / "predictions.parquet").to_pylist()
    tested = {row["post_id"] for row in rows if row["split"] == "test"}
    scored = json.loads((run / "tree" / "0" / "metrics.json").read_text())["n_test"]

    assert (24, 16, 16) == (len(trained), len(stopped), len(tested))
    assert digest(stopped) == digest(clustered)
    assert scored == len(tested)
    assert not tested & (trained | stopped)
    assert not trained & stopped
