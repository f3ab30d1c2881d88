"""Training in several processes, in partial batches or in parallel gives the same weights."""

import csv
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from personae.errors import BadParams
from tests.train.conftest import LABELS
from train.__main__ import main
from train.data import sampling
from train.engine import loop
from train.engine.task import Task
from train.runtime import checkpoint
from train.tree import hierarchy

# No norm, dropout or noise: these depend on the part of the batch.
PARAMS = {
    "seeds": [0],
    "data": {"batch_size": 10},
    "backbone": {
        "widths": [8, 16, 16, 16, 16],
        "dense": 32,
        "init": "he",
        "dropout": 0,
        "noise": 0,
    },
    "loop": {"epochs": 3, "threads": 1, "device": "cpu", "lr": 0.02},
    "evaluate": {"latency_seconds": 0.05},
    "runs": {"families": {"method": "uppsala", "grouping": "families"}},
    "uppsala": {"freeze": "last_block"},
}
FAMILIES = ((0, 1), (2, 3))


@pytest.fixture
def project(tiny_shards, tmp_path, monkeypatch):
    """Writes params.yaml and tiny shards to a working folder."""
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def torchrun(*command, processes=2):
    """Runs `python -m train …` in several processes, as a user would."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launcher, f"--nproc-per-node={processes}", "-m", "train", *command],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def start_and_kill(*command, processes, epoch):
    """Starts a training in several processes, as Slurm does, and kills all after an epoch."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "train", *command],
            env=os.environ | world | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.DEVNULL,
        )
        for rank in range(processes)
    ]
    stop = time.monotonic() + 120
    try:
        while checkpoint_epoch() < epoch:
            assert all(process.poll() is None for process in running), "a process has ended"
            assert time.monotonic() < stop, "no checkpoint came"
            time.sleep(0.01)
    finally:
        for process in running:
            process.kill()
            process.wait()


def checkpoint_epoch():
    """Returns the epoch of the only checkpoint below work/; -1 if there is none yet."""
    for path in Path("work/train").glob("*/root.safetensors"):
        return checkpoint.load(path)[1]["epoch"]
    return -1


def weights(folder):
    return checkpoint.under("network", checkpoint.load(folder / "flat/0/weights.safetensors")[0])


def floats(folder):
    tensors = checkpoint.load(folder / "weights.safetensors")[0]
    return {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}


def difference(first, second):
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def test_uneven_parts_in_two_processes_equal_one(project):
    """Unequal parts of a batch are reduced once per batch, and the weights equal one process."""
    options = ["--batch-size", "9", "--accumulate", "4"]
    assert main(["flat", "--results", "one", *options]) == 0
    torchrun("flat", "--results", "two", "--work", "other", *options)

    assert difference(weights(project / "one"), weights(project / "two")) < 2e-5


def test_too_few_pictures_for_the_processes(project, monkeypatch):
    """If a process gets fewer than two images per batch, training does not start."""
    monkeypatch.setattr("train.runtime.distributed.world_size", lambda: 8)
    assert main(["flat"]) == 2
    assert [] == [path for path in (project / "work").rglob("*") if path.is_file()]


def test_two_processes_equal_one(project):
    """Two gloo processes with the same global batches give the weights of one, up to rounding."""
    assert main(["flat", "--results", "one"]) == 0
    torchrun("flat", "--results", "two", "--work", "other")
    one, two = weights(project / "one"), weights(project / "two")

    assert difference(one, two) < 2e-5
    assert main(["flat", "--results", "less", "--epochs", "1"]) == 0
    assert difference(one, weights(project / "less")) > 1e-3
    assert not list((project / "other").glob("train/*"))


@pytest.mark.parametrize(("before", "after"), [(2, 1), (2, 3)])
def test_training_continues_with_another_number_of_processes(project, before, after):
    """Killed with some processes and continued with others, the updates are those of one process."""
    # A low rate: rounding, which differs by the number of processes, then grows little.
    options = ["--epochs", "20", "--batch-size", "9", "--lr", "0.002"]
    assert main(["flat", "--results", "whole", "--work", "other", *options]) == 0
    start_and_kill("flat", "--results", "parts", *options, processes=before, epoch=1)
    resumed = checkpoint_epoch()
    torchrun("flat", "--results", "parts", *options, processes=after)
    curves = (project / "parts/flat/0/curves.csv").read_text(encoding="utf-8").splitlines()

    assert 0 < resumed < 20
    assert [3 * epoch for epoch in range(1, 21)] == [int(r["step"]) for r in csv.DictReader(curves)]
    assert difference(weights(project / "whole"), weights(project / "parts")) < 1e-5
    assert not list((project / "work").glob("train/*"))  # the checkpoint of before was used


def test_term_of_the_whole_batch_in_two_processes(project):
    """The HD-CNN consistency term uses the mean over both processes: the weights are the same."""
    run = {"method": "hdcnn", "grouping": "hdcnn", "params": {"consistency": 50.0}}
    loose = {**run, "params": {"consistency": 0.0}}
    params = {**PARAMS, "runs": {"one": run, "two": run, "without": loose}, "hdcnn": {}}
    (project / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    folder = project / "data" / "clustering" / "0"
    folder.mkdir(parents=True)
    cover = {"labels": list(LABELS), "clusters": FAMILIES, "cover": ((0, 1, 2), (1, 2, 3))}
    (folder / "hdcnn.json").write_text(json.dumps(cover), encoding="utf-8")
    options = ["--batch-size", "9", "--joint-lr-scale", "1.0"]
    assert main(["flat", "--batch-size", "9"]) == 0
    assert main(["fit", "one", *options]) == 0
    assert main(["fit", "without", *options]) == 0
    torchrun("fit", "two", *options)
    one, two, without = (
        floats(project / "results" / name / "0") for name in ("one", "two", "without")
    )

    assert difference(one, two) < 2e-5
    assert difference(one, without) > 1e-3


@pytest.mark.parametrize("parts", [2, 3, 40])
def test_accumulated_parts_equal_whole_batches(tiny_data, make_trainer, make_classifier, parts):
    """A batch in parts gives the update of the whole batch, for any number of parts."""
    data, found = tiny_data(), []
    network = section_of("backbone")
    for accumulate in (1, parts):
        params = loop.Params(epochs=2, threads=1, device="cpu", lr=0.02, accumulate=accumulate)
        model = make_classifier("flat", hierarchy.flat(4), network=network)
        trainer = make_trainer(data, params=params, batch_size=10, folder=f"work{accumulate}")
        model.fit(data, trainer, seed=0)
        found.append(model.state_dict())

    assert difference(*found) < 2e-6


def section_of(name):
    from train import backbone

    return backbone.Params(**PARAMS[name])


def test_weighted_parts_equal_whole_batches(tiny_data, make_trainer, make_classifier):
    """The loss is divided by the weights once per batch, not once per part."""
    data, found = tiny_data(), []
    for accumulate in (1, 4):
        params = loop.Params(epochs=2, threads=1, device="cpu", lr=0.02, accumulate=accumulate)
        model = make_classifier(
            "flat", hierarchy.flat(4), network=section_of("backbone"), balance="weights"
        )
        model.fit(data, make_trainer(data, params=params, folder=f"w{accumulate}"), seed=0)
        found.append(model.state_dict())

    assert difference(*found) < 2e-6


def test_jobs_do_not_change_the_weights(tiny_data, make_trainer, make_classifier):
    """Two subnetworks trained in parallel jobs are bit-identical to two trained in sequence."""
    data, found, reports = tiny_data(), [], []
    tree = hierarchy.from_clusters(FAMILIES, 4)
    for jobs in (1, 2):
        params = loop.Params(epochs=2, threads=1, device="cpu", lr=0.02, jobs=jobs)
        model = make_classifier("uppsala", tree, root_init="scratch", freeze="last_block")
        trainer = make_trainer(data, params=params, folder=f"work{jobs}")
        reports.append(model.fit(data, trainer, seed=0))
        found.append(model.state_dict())

    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert [n.network for n in reports[0].networks] == [n.network for n in reports[1].networks]
    assert reports[1].critical_path_seconds < reports[1].total_seconds
    # The jobs have finished, so the parent reads the same networks without training.
    model = make_classifier("uppsala", tree, root_init="scratch", freeze="last_block")
    trainer = make_trainer(data, params=params, folder="work2")
    trainer.clock = iter(()).__next__  # an epoch would read it, and there is no reading
    model.fit(data, trainer, seed=0)
    assert all(torch.equal(found[0][name], model.state_dict()[name]) for name in found[0])


def test_failed_job_is_told_by_the_parent(tiny_data, make_trainer, make_classifier):
    """A network that diverges in a job process ends the run with the usual error."""
    from train.errors import Diverged

    data = tiny_data()
    tree = hierarchy.from_clusters(FAMILIES, 4)
    params = loop.Params(
        epochs=2, threads=1, device="cpu", lr=1e30, jobs=2, ema=0, clip=0, warm_up=0
    )
    model = make_classifier("uppsala", tree, root_init="scratch", freeze="last_block")
    trainer = make_trainer(data, params=params)
    pairs = [model._own_task(data, f"cluster-{k}", seed=0) for k in (0, 1)]
    with pytest.raises(Diverged, match="'cluster-0' is not finite"):
        trainer.fit_all(pairs, seed=0)


def test_jobs_under_torchrun_are_refused(monkeypatch):
    """`jobs` under torchrun is refused, because it would train every subnetwork several times."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BadParams, match="jobs works within one process"):
        loop.prepare(loop.Params(jobs=2))


def test_too_large_batches_say_what_to_do(tiny_data, make_trainer, make_classifier):
    """A batch that exceeds memory gives an error with remedies, and the checkpoint is kept."""
    from train.errors import OutOfMemory

    def full(_module, _inputs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")

    data = tiny_data()
    trainer, network = make_trainer(data), make_classifier("flat", hierarchy.flat(4)).network
    sampler = sampling.by_class(data.train.labels, [[0], [1], [2], [3]], balance="none")
    network.register_forward_pre_hook(full)
    with pytest.raises(OutOfMemory, match=r"'root' does not fit .*loop\.accumulate"):
        trainer.fit(network, Task("root", data, np.arange(4), sampler, macs_trained=1), seed=0)
    assert checkpoint.load(trainer.work_dir / "root.safetensors")[1]["epoch"] == 0


def test_lone_pictures_train(tiny_data, make_trainer, make_classifier):
    """A label with one image and a last batch of one image pass through every norm."""
    data = tiny_data(per_label=2)
    sampler = sampling.by_class(data.train.labels, [[0], [1], [2], [3]], balance="resample")
    sampler = sampling.Sampler(
        [[rows[:1] for rows in part] for part in sampler.classes], "resample"
    )
    task = Task("root", data, np.arange(4), sampler, macs_trained=1)
    model = make_classifier("flat", hierarchy.flat(4))
    trainer = make_trainer(data, params=loop.Params(epochs=2, device="cpu"), batch_size=3)

    assert trainer.fit(model.network, task, seed=0).images_seen == 8
