"""Training: the report's arithmetic, both recipes, checkpoints, resuming, divergence, budgets."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from personae.errors import BadParams
from train import backbone
from train.classifier import Cost, FitReport, NetworkReport
from train.data import augment, sampling
from train.engine import loop, schedule
from train.engine.task import Task
from train.errors import BadCheckpoint, Diverged
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


def report_of(name, seconds, *, waits_for=None):
    return NetworkReport(
        network=name,
        seconds=seconds,
        waiting_seconds=0,
        epochs=1,
        discarded_epochs=0,
        images_seen=1,
        pictures=1,
        train_flops=1,
        params=1,
        stopped_by="epochs",
        waits_for=waits_for,
    )


def tensors_equal(first, second):
    return all((first[name] == second[name]).all() for name in first)


def test_nesterov_follows_the_worked_example():
    """On f(w) = w²/2 from 1 with rate 0.1 and momentum 0.5: 0.85, 0.6975, 0.559125."""
    weight = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
    optimiser = schedule.Nesterov([weight], lr=0.1, momentum=0.5)
    seen = []
    for _ in range(3):
        optimiser.zero_grad()
        (weight**2 / 2).backward()
        optimiser.step()
        seen.append(float(weight.detach()))

    assert np.allclose([0.85, 0.6975, 0.559125], seen)


def test_nesterov_equals_torch_at_a_constant_rate():
    """With decay on the weights it takes torch's steps as long as the rate stays."""
    torch.manual_seed(0)
    start, target = torch.randn(5, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    ends = []
    for kind in ("ours", "torch"):
        weight = nn.Parameter(start.clone())
        options = {"lr": 0.1, "momentum": 0.5, "weight_decay": 4e-5}
        optimiser = (
            schedule.Nesterov([weight], **options)
            if kind == "ours"
            else torch.optim.SGD([weight], nesterov=True, **options)
        )
        for _ in range(10):
            optimiser.zero_grad()
            ((weight - target) ** 2).sum().backward()
            optimiser.step()
        ends.append(weight.detach())

    assert torch.allclose(ends[0], ends[1])


def test_rate_decays_per_update():
    """After 13,740 updates 1e-3 has become 8.791982e-4; a halving halves it again."""
    assert math.isclose(8.791982e-4, schedule.decayed(1e-3, 13_740, decay=1e-5), rel_tol=1e-6)
    recipe = loop.recipe_of(loop.Params(recipe="report"))
    assert math.isclose(8.791982e-4 / 2, recipe.rate(13_740, steps=1, factor=0.5), rel_tol=1e-6)


def test_plateau_and_stop_follow_the_worked_trace():
    """Best at epoch 2, halved at the ends of epochs 6 and 10, stopped at the end of epoch 10."""
    state, factors, stopped = schedule.Plateau(), [], []
    for loss in (1.0, 0.9, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97, 0.98):
        state = state.after(loss)
        factors.append(state.factor)
        stopped.append(state.stopped)

    assert [1] * 5 + [0.5] * 4 + [0.25] == factors
    assert [False] * 9 + [True] == stopped
    assert state.best_epoch == 2


def test_report_recipe_has_the_report_numbers():
    """Rate 1e-3, momentum 0.5, decay 1e-5 and 4e-5, no smoothing, no average, no clipping."""
    recipe = loop.recipe_of(loop.Params(recipe="report"))

    assert schedule.Recipe("report", 1e-3, 0.5, 4e-5, lr_decay=1e-5) == recipe
    assert recipe.stops_early
    optimiser = schedule.optimiser(recipe, network())
    assert isinstance(optimiser, schedule.Nesterov)
    assert [4e-5] == [group["weight_decay"] for group in optimiser.param_groups]


def test_one_cycle_rises_and_falls():
    """The rate rises to its highest over the warm-up and ends at zero."""
    rates = [schedule.one_cycle(0.1, step, steps=100, warm_up=0.25) for step in range(100)]

    assert math.isclose(0.1, max(rates))
    assert 24 == int(np.argmax(rates))
    assert math.isclose(0.004, rates[0])
    assert rates[-1] < 1e-9
    assert rates[:25] == sorted(rates[:25])
    assert rates[24:] == sorted(rates[24:], reverse=True)


@pytest.mark.parametrize(
    ("own", "rates"),
    [
        (
            {"warm_up": 0.02564, "cuts": (0.4359, 0.64103)},
            {
                0: 0.01,
                1_999: 0.01,
                2_000: 0.1,
                33_999: 0.1,
                34_000: 0.01,
                49_999: 0.01,
                50_000: 0.001,
                77_999: 0.001,
            },
        ),
        ({}, {0: 0.1, 31_999: 0.1, 32_000: 0.01, 47_999: 0.01, 48_000: 0.001, 77_999: 0.001}),
    ],
    ids=["hiernet", "backbone"],
)
def test_step_recipe_has_the_rates_of_hiernet(own, rates):
    """Of 78,000 updates each has the rate of methods.md 5.3, of HierNet and of its backbone."""
    recipe = loop.recipe_of(loop.Params(recipe="step", **own))
    found = {step: recipe.rate(step, steps=78_000, factor=1.0) for step in rates}

    assert found == pytest.approx(rates, rel=1e-12)


def test_step_recipe_is_plain_sgd():
    """Momentum 0.9 that is not Nesterov's, 1e-4 on every weight, and nothing of the fast recipe."""
    recipe = loop.recipe_of(loop.Params(recipe="step", optimiser="adamw"))
    optimiser = schedule.optimiser(recipe, network())
    (group,) = optimiser.param_groups

    assert schedule.Recipe("step", 0.1, 0.9, 1e-4, cuts=(0.41026, 0.61538)) == recipe
    assert not recipe.stops_early
    assert isinstance(optimiser, torch.optim.SGD)
    assert (0.9, 1e-4, False) == tuple(
        group[name] for name in ("momentum", "weight_decay", "nesterov")
    )
    assert len(group["params"]) == len(schedule.trained(network()))


@pytest.mark.parametrize(
    ("own", "expected"), [({}, 0.25), ({"warm_up": 0.0}, 0.0), ({"optimiser": "adamw"}, 0.25)]
)
def test_warm_up_is_the_recipes_own_unless_given(own, expected):
    """A quarter of the updates rises in recipe fast, whatever the optimiser; 0 is 0."""
    assert expected == loop.recipe_of(loop.Params(**own)).warm_up


def test_cuts_outside_the_training_are_refused():
    """A cut is a share of the updates: 32,000 itself is none."""
    with pytest.raises(ValueError, match=r"cuts\.0"):
        loop.Params(cuts=(32_000,))


def test_step_recipe_keeps_the_last_weights(tiny_data, make_trainer):
    """Nothing stops early: all epochs run, at the rates of their shares, and the last one is kept."""
    params = params_of(recipe="step", epochs=4, cuts=(0.5, 0.75), warm_up=0.25, lr=0.1)
    trainer, trained = make_trainer(tiny_data(), params=params), network()
    report = trainer.fit(trained, task_of(tiny_data()), seed=0)

    assert (4, 0, "epochs") == (report.epochs, report.discarded_epochs, report.stopped_by)
    assert [0.01, 0.1, 0.01, 0.001] == pytest.approx([row["lr"] for row in trainer.curves])


def test_fast_recipe_spares_biases_and_slows_convolutions():
    """Matrices decay, vectors do not; named prefixes learn at a tenth."""
    recipe = loop.recipe_of(loop.Params())
    groups = schedule.optimiser(recipe, network(), slow=("blocks",)).param_groups

    assert {(0.1, 5e-4), (0.1, 0.0), (1.0, 5e-4), (1.0, 0.0)} == {
        (group["scale"], group["weight_decay"]) for group in groups
    }


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
    """Interrupted in its third epoch and started again, a training ends with the same bits."""
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
    """A network whose checkpoint says so is loaded and reported as it was."""
    data = tiny_data()
    first, second = network(), network(seed=9)
    before = make_trainer(data, params=params_of()).fit(first, task_of(data), seed=0)
    after = make_trainer(data, params=params_of()).fit(second, task_of(data), seed=0)

    assert before == after
    assert tensors_equal(first.state_dict(), second.state_dict())


def test_divergence_names_step_and_rate_and_keeps_the_checkpoint(tiny_data, make_trainer):
    """An absurd rate ends in Diverged; the weights before it stay on disk, all finite."""
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
    """The kept weights are those of the epoch with the least validation loss."""
    data = tiny_data()
    trainer, trained = make_trainer(data, params=params_of(recipe="report", epochs=12)), network()
    report = trainer.fit(trained, task_of(data), seed=0)
    losses = [row["val_loss"] for row in trainer.curves]
    logits = trained(augment.scale(data.val.batch(np.arange(32))) - trainer.mean[:, None, None])
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(data.val.labels))

    assert report.discarded_epochs == len(losses) - 1 - int(np.argmin(losses))
    assert math.isclose(min(losses), float(loss.detach()), rel_tol=1e-4)


def test_frozen_stem_stays_bit_identical(tiny_data, make_trainer):
    """Training a branch moves the branch and not one bit of the stem, norms and averages included."""
    data, trunk = tiny_data(), network()
    before = {name: value.clone() for name, value in trunk.blocks.state_dict().items()}
    branch = backbone.branch_of(trunk, outputs=4, first_own=5)
    attached = backbone.Attached(trunk.blocks, branch)
    old = branch.head.fc21.weight.clone()
    make_trainer(data, params=params_of(epochs=2)).fit(attached, task_of(data), seed=0)

    assert tensors_equal(before, trunk.blocks.state_dict())
    assert not torch.equal(old, branch.head.fc21.weight)


def test_budget_in_operations_ends_the_cycle_in_time(tiny_data, make_trainer):
    """A limit in operations shortens the schedule, is recorded, and the rate still ends at zero."""
    data = tiny_data()
    limit = 2.5 * 32 * 6 * 1000
    trainer = make_trainer(data, params=params_of(epochs=9, max_train_flops=limit))
    report = trainer.fit(network(), task_of(data), seed=0)

    assert (2, "flops") == (report.epochs, report.stopped_by)
    assert report.train_flops <= limit
    assert trainer.curves[-1]["lr"] < 1e-9


def test_budget_in_seconds_stops(tiny_data, make_trainer):
    """A limit in seconds stops after the epoch that crosses it."""
    trainer = make_trainer(tiny_data(), params=params_of(max_seconds=1e-9))

    assert "seconds" == trainer.fit(network(), task_of(tiny_data()), seed=0).stopped_by


def test_class_weights_reach_the_loss(tiny_data, make_trainer):
    """With balance `weights` the first loss is the weighted mean, and not the plain one."""
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


def test_balanced_draws_of_the_worked_example():
    """Clusters of 3, 2 and 1 labels with 100 images each: 34/33/33, 50/50, 100."""
    labels = np.repeat(np.arange(6), 100)
    sampler = sampling.by_class(labels, [[0, 1, 2], [3, 4], [5]], balance="resample")
    rows = sampler.draw(fixed=seeds.seed(0), epoch=seeds.seed(1))
    counts = np.bincount(labels[rows], minlength=6)

    assert 300 == len(rows) == sampler.epoch_images
    assert 600 == sampler.images
    assert [33, 33, 34] == sorted(counts[:3].tolist())
    assert [50, 50, 100] == counts[3:].tolist()
    assert len(set(rows.tolist())) == 300


def test_fixed_draws_repeat_and_resampled_ones_do_not():
    """`fixed` shows the same images in each epoch, in another order; `resample` shows others."""
    labels = np.array([0] * 50 + [1] * 10)
    shown = {}
    for balance in ("fixed", "resample"):
        sampler = sampling.by_class(labels, [[0], [1]], balance=balance)
        shown[balance] = [
            sampler.draw(fixed=seeds.seed("f"), epoch=seeds.seed(epoch)).tolist()
            for epoch in range(2)
        ]

    assert sorted(shown["fixed"][0]) == sorted(shown["fixed"][1])
    assert shown["fixed"][0] != shown["fixed"][1]
    assert sorted(shown["resample"][0]) != sorted(shown["resample"][1])


def test_scarce_label_is_made_up_for():
    """A label with too few images gives all, and the others fill its share."""
    assert [10, 45, 45] == sampling.quotas([10, 200, 200], 100)
    assert [34, 33, 33] == sampling.quotas([100, 100, 100], 100)


def test_critical_path_of_the_worked_example():
    """A root of 3,900 s and its six subnetworks: 6,620 s in all, 4,620 s on the critical path."""
    subs = (720, 600, 500, 400, 320, 180)
    networks = [report_of("root", 3900)]
    networks += [report_of(f"cluster-{n}", s, waits_for="root") for n, s in enumerate(subs)]
    report = FitReport(tuple(networks))

    assert (6620, 4620) == (report.total_seconds, report.critical_path_seconds)
    assert math.isclose(453.33, sum(subs) / 6, abs_tol=0.01)


def test_critical_path_of_a_deep_tree():
    """The largest sum from the root down counts, not the root and the longest single network."""
    took = [("a", 1500, "root"), ("a-0", 300, "a"), ("b", 1400, "root"), ("b-0", 900, "b")]
    networks = [report_of("root", 2220)]
    networks += [report_of(name, seconds, waits_for=parent) for name, seconds, parent in took]
    report = FitReport(tuple(networks))

    assert (6320, 2220 + 1400 + 900) == (report.total_seconds, report.critical_path_seconds)


def test_expected_macs_of_the_worked_example():
    """MACs 100, 40, 60 with shares 1, 0.7, 0.2 give 140 of 200."""
    cost = Cost(params=1, macs={"root": 100, "a": 40, "b": 60})

    assert math.isclose(140, cost.macs_expected({"root": 1.0, "a": 0.7, "b": 0.2}))
    assert cost.macs_max == 200


def test_checkpoint_of_another_shape_is_refused(tmp_path):
    """Weights that do not fit are refused by name, damaged files too, and nothing is changed."""
    path = tmp_path / "weights.safetensors"
    checkpoint.save(path, network().state_dict(), {"epoch": 1})
    tensors, state = checkpoint.load(path)
    other = backbone.build(SMALL, outputs=5, side=SIDE)
    before = other.head.fc21.weight.clone()

    assert {"epoch": 1} == state
    with pytest.raises(BadCheckpoint, match="predictions"):
        checkpoint.fill(other, tensors, source="it")
    assert torch.equal(before, other.head.fc21.weight)
    path.write_bytes(path.read_bytes()[:100])
    for missing in (path, tmp_path / "absent"):
        with pytest.raises(BadCheckpoint, match="cannot be read"):
            checkpoint.load(missing)


def test_absent_accelerator_is_said(monkeypatch):
    """Asking for cuda where there is none names the parameter."""
    if torch.cuda.is_available():
        pytest.skip("this machine has an accelerator")
    with pytest.raises(BadParams, match=r"loop\.device"):
        loop.prepare(loop.Params(device="cuda"))
    assert torch.device("cpu") == loop.prepare(loop.Params(threads=1))


def test_curves_are_plain_json(tiny_data, make_trainer):
    """A row of the curves holds numbers and names only, one row an epoch."""
    trainer = make_trainer(tiny_data(), params=params_of(epochs=2))
    trainer.fit(network(), task_of(tiny_data()), seed=0)

    assert [(1, 2), (2, 4)] == [(row["epoch"], row["step"]) for row in trainer.curves]
    assert trainer.curves == json.loads(json.dumps(trainer.curves))
