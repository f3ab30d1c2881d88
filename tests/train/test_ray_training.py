"""Tests subnetworks as tasks of a Ray cluster of two nodes: the same weights as in one process."""

import os
import threading
from pathlib import Path

import pytest
import torch

from tests import ray_cluster
from train.__main__ import main
from train.errors import Diverged
from train.params import loop
from train.tree import hierarchy

FAMILIES = [[0, 1], [2, 3]]
needs_ray = pytest.mark.skipif(ray_cluster.IS_ABSENT, reason=ray_cluster.REASON)
PARAMS = loop.Params(epochs=3, threads=1, device="cpu", lr=0.02)


@pytest.fixture(scope="module")
def two_nodes():
    with ray_cluster.two_nodes() as cluster:
        yield cluster


@pytest.fixture
def trained(tiny_data, make_trainer, make_classifier):
    """Trains a tree: `trained(folder, engine=…)` returns its weights and the reports."""

    def fit(folder, **changes):
        data, tree = tiny_data(), hierarchy.from_clusters(FAMILIES, 4)
        model = make_classifier("uppsala", tree, root_init="scratch", freeze="last_block")
        trainer = make_trainer(data, params=PARAMS, folder=folder)
        for name, value in changes.items():
            setattr(trainer, name, value)
        return model.fit(data, trainer, seed=0), model.state_dict()

    return fit


def equal(weights, others) -> bool:
    return all(torch.equal(weights[name], others[name]) for name in weights)


@needs_ray
def test_tasks_of_a_cluster_give_the_same_weights(two_nodes, trained, caplog) -> None:
    """Two subnetworks trained on two nodes are bit-identical to two trained in sequence."""
    reports, weights = trained("local")
    cluster_reports, cluster_weights = trained("ray", engine="ray")

    assert [] == [record for record in caplog.records if record.name == "train.engine.parallel"]
    assert equal(weights, cluster_weights)
    assert [each.network for each in reports.networks] == [
        each.network for each in cluster_reports.networks
    ]


@needs_ray
def test_a_network_that_diverges_is_our_own_error(
    two_nodes, tiny_data, make_trainer, make_classifier
) -> None:
    """A network that diverges in a task ends the run with the error of the trainer."""
    tree = hierarchy.from_clusters(FAMILIES, 4)
    params = loop.Params(
        epochs=2, threads=1, device="cpu", lr=1e30, ema=0, clip=0, warm_up=0, jobs=2
    )
    data = tiny_data()
    model = make_classifier("uppsala", tree, root_init="scratch", freeze="last_block")
    trainer = make_trainer(data, params=params)
    trainer.engine = "ray"
    pairs = [model._own_task(data, f"cluster-{k}", seed=0) for k in (0, 1)]
    with pytest.raises(Diverged, match="'cluster-0' is not finite"):
        trainer.fit_all(pairs, seed=0)


@needs_ray
def test_a_lost_node_changes_no_weight(two_nodes, trained, tmp_path) -> None:
    """A node is killed while it trains a subnetwork: the other node continues its checkpoint."""
    _, weights = trained("local")
    pipe, gate, done = tmp_path / "pipe", tmp_path / "gate", threading.Event()
    os.mkfifo(pipe)
    os.mkfifo(gate)
    killer = threading.Thread(target=two_nodes.kill_at, args=(pipe, gate, done))
    killer.start()
    clock = ray_cluster.StoppingClock(pipe, gate, two_nodes.other, readings=10)
    _, cluster_weights = trained("ray", engine="ray", clock=clock)
    done.set()
    killer.join()

    assert equal(weights, cluster_weights)


def test_engine_ray_under_torchrun_is_refused(monkeypatch, capsys) -> None:
    """Several processes would each send every network to the cluster."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    params = str(Path(__file__).resolve().parents[2] / "params.yaml")

    assert 2 == main(["fit", "uppsala", "--engine", "ray", "--params", params])
    assert "error: Engine 'ray' starts from one process." in capsys.readouterr().err
