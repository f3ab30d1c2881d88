"""Training: resuming, divergence, budgets, kept weights and class weights."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from personae.errors import BadParams
from train import backbone
from train.data import augment, sampling
from train.engine import loop
from train.engine.task import Task
from train.errors import Diverged
from train.runtime import checkpoint, seeds

SIDE = 16
SMALL = backbone.Params(
    widths=(8, 16, 16, 16, 16), dense=32, batch_norm=True, dropout=0.1, noise=0.01, init="he"
)
MOVES = augment.Params()


def network(*, seed=0, params=SMALL):
    seeds.seed(seed, "network")
    return backbone.build(params, outputs=4, side=SIDE)


def task_of(data, **options):
    sampler = sampling.by_class(data.train.labels, [[leaf] for leaf in range(4)], balance="none")
    return Task(
        **(
            {
                "name": "root",
                "data": data,
                "outputs": np.arange(4),
                "sampler": sampler,
                "macs_trained": 1000,
            }
            | options
        ),
    )


def params_of(**options):
    return loop.Params(**({"epochs": 3, "lr": 0.05, "threads": 1, "device": "cpu"} | options))


def tensors_equal(first, second):
    return all((first[name] == second[name]).all() for name in first)


def test_step_recipe_keeps_the_last_weights(tiny_data, make_trainer):
    """All epochs run without early stopping, at the rates of the cuts, and the last is kept."""
    params = params_of(recipe="step", epochs=4, cuts=(0.5, 0.75), warm_up=0.25, lr=0.1)
    trainer, trained = make_trainer(tiny_data(), params=params), network()
    report = trainer.fit(trained, task_of(tiny_data()), seed=0)

    assert (4, 0, "epochs") == (report.epochs, report.discarded_epochs, report.stopped_by)
    assert [0.01, 0.1, 0.01, 0.001] == pytest.approx([row["lr"] for row in trainer.curves])


@pytest.mark.parametrize(
    "options",
    [
        {"recipe": "report"},
        {"recipe": "step"},
        {"optimiser": "sgd"},
        {"optimiser": "adamw", "precision": "bfloat16"},
    ],
)
def test_stopped_training_goes_on_to_the_same_weights(tiny_data, make_trainer, options):
    """Training interrupted in its third epoch and resumed gives bit-identical weights."""
    data, params = tiny_data(), params_of(epochs=4, **options)
    whole = network()
    make_trainer(data, params=params, moves=MOVES).fit(whole, task_of(data), seed=5)
    calls = []

    class Interrupted(sampling.Sampler):
        def draw(self, **generators):
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return super().draw(**generators)

    task = task_of(data)
    broken = Interrupted(task.sampler.classes, "none")
    with pytest.raises(KeyboardInterrupt):
        make_trainer(data, params=params, moves=MOVES, folder="again").fit(
            network(), task_of(data, sampler=broken), seed=5
        )
    trainer, resumed = make_trainer(data, params=params, moves=MOVES, folder="again"), network()
    report = trainer.fit(resumed, task, seed=5)

    assert tensors_equal(whole.state_dict(), resumed.state_dict())
    assert (4, 4 * 32) == (report.epochs, report.images_seen)
    assert [1, 2, 3, 4] == [row["epoch"] for row in trainer.curves]


def test_seed_decides_everything(tiny_data, make_trainer):
    """Equal seeds give equal bits; another seed gives other weights from the same start."""
    data, ends = tiny_data(), []
    for place, seed in enumerate((1, 1, 2)):
        trained = network()
        trainer = make_trainer(data, params=params_of(epochs=1), moves=MOVES, folder=f"w{place}")
        trainer.fit(trained, task_of(data), seed=seed)
        ends.append(trained.state_dict())

    assert tensors_equal(ends[0], ends[1])
    assert not tensors_equal(ends[0], ends[2])


def test_finished_network_is_not_trained_again(tiny_data, make_trainer):
    """A network with a finished checkpoint is loaded, and its report stays the same."""
    data = tiny_data()
    first, second = network(), network(seed=9)
    before = make_trainer(data, params=params_of()).fit(first, task_of(data), seed=0)
    after = make_trainer(data, params=params_of()).fit(second, task_of(data), seed=0)

    assert before == after
    assert tensors_equal(first.state_dict(), second.state_dict())


def test_divergence_names_step_and_rate_and_keeps_the_checkpoint(tiny_data, make_trainer):
    """A rate of 1e30 raises Diverged; the finite weights before it stay on disk."""
    data = tiny_data()
    trainer = make_trainer(data, params=params_of(lr=1e30, ema=0, clip=0, warm_up=0))
    with pytest.raises(Diverged, match=r"is not finite at step \d+ .*loop\.lr") as caught:
        trainer.fit(network(), task_of(data), seed=0)
    tensors, state = checkpoint.load(trainer.work_dir / "root.safetensors")

    assert caught.value.network == "root"
    assert caught.value.step in (1, 2, 3)
    assert caught.value.lr > 1e28
    assert all(t.isfinite().all() for t in tensors.values() if t.is_floating_point())
    assert state["epoch"] == 0


def test_report_recipe_keeps_the_best_weights(tiny_data, make_trainer):
    """The kept weights are those of the epoch with the lowest validation loss."""
    data = tiny_data()
    trainer, trained = make_trainer(data, params=params_of(recipe="report", epochs=12)), network()
    report = trainer.fit(trained, task_of(data), seed=0)
    losses = [row["val_loss"] for row in trainer.curves]
    logits = trained(augment.scale(data.val.batch(np.arange(32))) - trainer.mean[:, None, None])
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(data.val.labels))

    assert report.discarded_epochs == len(losses) - 1 - int(np.argmin(losses))
    assert math.isclose(min(losses), float(loss.detach()), rel_tol=1e-4)


def test_every_part_of_a_batch_has_two_images(tiny_data, make_trainer):
    """Batches of seven and four in up to four parts train a norm that takes no single value."""
    data, channels = tiny_data(), nn.AdaptiveAvgPool2d(1)
    trained = nn.Sequential(channels, nn.Flatten(), nn.BatchNorm1d(3), nn.Linear(3, 4))
    trainer = make_trainer(data, params=params_of(epochs=1, accumulate=4), batch_size=7)
    trainer.fit(trained, task_of(data), seed=0)

    assert 4 * 3 + 2 == trained[2].num_batches_tracked


@pytest.mark.parametrize(("batch_norm", "is_equal"), [(False, True), (True, False)])
def test_parts_of_a_batch_change_batch_norms_alone(tiny_data, make_trainer, batch_norm, is_equal):
    """Two parts of each batch give the same weights up to rounding, without batch norm."""
    params = SMALL.model_copy(update={"dropout": 0.0, "noise": 0.0, "batch_norm": batch_norm})
    weights = []
    for parts in (1, 2):
        trained = network(params=params)
        trainer = make_trainer(
            tiny_data(), params=params_of(accumulate=parts), folder=f"parts-{parts}"
        )
        trainer.fit(trained, task_of(tiny_data()), seed=0)
        weights.append(torch.cat([weight.flatten() for weight in trained.parameters()]))

    assert is_equal == torch.allclose(*weights, atol=1e-6)


def test_frozen_stem_stays_bit_identical(tiny_data, make_trainer):
    """Training a branch changes the branch and keeps the stem, norms included, bit-identical."""
    data, trunk = tiny_data(), network()
    before = {name: value.clone() for name, value in trunk.blocks.state_dict().items()}
    branch = backbone.branch_of(trunk, outputs=4, first_own=5)
    attached = backbone.Attached(trunk.blocks, branch)
    old = branch.head.fc21.weight.clone()
    make_trainer(data, params=params_of(epochs=2)).fit(attached, task_of(data), seed=0)

    assert tensors_equal(before, trunk.blocks.state_dict())
    assert not torch.equal(old, branch.head.fc21.weight)


def test_budget_in_operations_ends_the_cycle_in_time(tiny_data, make_trainer):
    """A limit in operations shortens the schedule, is recorded, and the rate ends at zero."""
    data = tiny_data()
    limit = 2.5 * 32 * 6 * 1000
    trainer = make_trainer(data, params=params_of(epochs=9, max_train_flops=limit))
    report = trainer.fit(network(), task_of(data), seed=0)

    assert (2, "flops") == (report.epochs, report.stopped_by)
    assert report.train_flops <= limit
    assert trainer.curves[-1]["lr"] < 1e-9


@pytest.mark.parametrize(
    ("options", "epochs"),
    [
        ({"min_updates": 9}, 5),  # an epoch of 32 images has two updates
        ({"min_updates": 10}, 5),
        ({"min_updates": 4}, 3),
        ({"min_updates": 10, "max_train_flops": 2.5 * 32 * 6 * 1000}, 2),
    ],
)
def test_few_images_train_more_epochs(tiny_data, make_trainer, options, epochs):
    """A training has at least `min_updates` updates, its whole schedule within them."""
    trainer = make_trainer(tiny_data(), params=params_of(epochs=3, **options), batch_size=16)
    report = trainer.fit(network(), task_of(tiny_data()), seed=0)

    assert epochs == report.epochs
    assert 2 * epochs == trainer.curves[-1]["step"]
    assert trainer.curves[-1]["lr"] < 1e-9


def test_unset_minimum_leaves_no_trace():
    """The description in the weights is that of a version without `min_updates`."""
    assert "min_updates" not in loop.Params().model_dump(mode="json")
    assert 5 == loop.Params(min_updates=5).model_dump(mode="json")["min_updates"]


def test_budget_in_seconds_stops(tiny_data, make_trainer):
    """A limit in seconds stops training after the epoch that exceeds it."""
    trainer = make_trainer(tiny_data(), params=params_of(max_seconds=1e-9))

    assert "seconds" == trainer.fit(network(), task_of(tiny_data()), seed=0).stopped_by


def test_class_weights_reach_the_loss(tiny_data, make_trainer):
    """With balance `weights` the first loss is the weighted mean, not the plain mean."""
    data = tiny_data()
    groups, outputs = [[0, 1, 2], [3]], np.array([0, 0, 0, 1])
    sampler = sampling.by_class(data.train.labels, groups, balance="weights")
    plain = SMALL.model_copy(update={"dropout": 0.0, "noise": 0.0})
    seeds.seed(0)
    two = backbone.build(plain, outputs=2, side=SIDE)
    trainer = make_trainer(
        data, params=params_of(epochs=1, lr=1e-12, label_smoothing=0.0), batch_size=32
    )
    inputs = augment.scale(data.train.batch(np.arange(32))) - trainer.mean[:, None, None]
    with torch.no_grad():
        logits = copy.deepcopy(two).train()(inputs)
    targets = torch.from_numpy(outputs[data.train.labels])
    weights = torch.tensor([32 / (2 * 24), 32 / (2 * 8)])
    weighted, unweighted = (
        float(nn.functional.cross_entropy(logits, targets, weight=w)) for w in (weights, None)
    )
    report = trainer.fit(two, task_of(data, sampler=sampler, outputs=outputs), seed=0)

    assert np.allclose(weights, sampler.weights())
    assert (32, 32) == (report.images_seen, report.pictures)
    assert math.isclose(weighted, trainer.curves[0]["train_loss"], rel_tol=1e-5)
    assert abs(weighted - unweighted) > 1e-3


def test_absent_accelerator_is_said(monkeypatch):
    """If cuda is requested but absent, the error names the parameter."""
    if torch.cuda.is_available():
        pytest.skip("this machine has an accelerator")
    with pytest.raises(BadParams, match=r"loop\.device"):
        loop.prepare(loop.Params(device="cuda"))
    assert torch.device("cpu") == loop.prepare(loop.Params(threads=1))


def test_curves_are_plain_json(tiny_data, make_trainer):
    """The curves have one row per epoch, with numbers and names only."""
    trainer = make_trainer(tiny_data(), params=params_of(epochs=2))
    trainer.fit(network(), task_of(tiny_data()), seed=0)

    assert [(1, 2), (2, 4)] == [(row["epoch"], row["step"]) for row in trainer.curves]
    assert trainer.curves == json.loads(json.dumps(trainer.curves))
