"""
`python -m train serve RUN`: a page on this machine that predicts the image dropped on it.

Reads results/RUN/SEED, and data/shards if they are those that the run was trained on.
"""

import logging
from pathlib import Path

import numpy as np

from personae.build.index import read_index
from personae.errors import MissingInput
from personae.local_page import LocalServer
from train import predict, saved
from train.data.images import open_split, share_of_each_label
from train.serve.answers import PredictionPage
from train.serve.neighbours import Neighbours

log = logging.getLogger(__name__)

_COMMAND = "python -m train serve RUN"


def run(
    name: str, *, seed: int, port: int, data_dir: Path, results_dir: Path, work_dir: Path
) -> None:
    """
    Serves the page until Ctrl-C, and prints its address.

    Raises:
        MissingInput: The run was not trained.
        BadDocument: model.json has another shape.
        BadShard: A shard is damaged.
        BadParams: The port is in use.
    """
    page = opened(name, seed=seed, data_dir=data_dir, results_dir=results_dir, work_dir=work_dir)
    with PredictionServer(page, port) as server:
        server.run()


class PredictionServer(LocalServer):
    """Answers requests until it is shut down; raises `BadParams` if the port is in use."""

    def __init__(self, page: PredictionPage, port: int) -> None:
        super().__init__(
            port,
            command=_COMMAND,
            get=page.get,
            post=page.post,
            most_bytes=predict.MAX_BYTES,
        )


def opened(
    name: str, *, seed: int, data_dir: Path, results_dir: Path, work_dir: Path
) -> PredictionPage:
    """Returns the page of a trained run; without training samples where the shards are others."""
    model = saved.load(results_dir / name / str(seed))
    shards_dir, selection = data_dir / "shards", model.model.selection
    try:
        root = read_index(shards_dir, selection).manifest.root_sha256
    except MissingInput as error:
        log.info("serve: no training samples: %s", error)
        return PredictionPage(model, None, without="The shards are not here.")
    if root != model.model.root_sha256:
        return PredictionPage(model, None, without="The shards are not those of the training.")
    data = model.model.params.get("data", {})
    split = "train+val" if data.get("train_on_val") else "train"
    images = open_split(shards_dir, work_dir / "cache", split, selection=selection)
    share = data.get("share", 1)
    trained = share_of_each_label(images, share) if share < 1 else np.arange(len(images))
    return PredictionPage(model, Neighbours(model, images, trained))
