"""The arithmetic of the recipes: rates, plateaus, stopping and the update rules."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from train import backbone
from train.engine import loop, schedule
from train.runtime import seeds

SIDE = 16
SMALL = backbone.Params(
    widths=(8, 16, 16, 16, 16), dense=32, batch_norm=True, dropout=0.1, noise=0.01, init="he"
)


def network(*, seed=0, params=SMALL):
    seeds.seed(seed, "network")
    return backbone.build(params, outputs=4, side=SIDE)


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
    """With weight decay and a constant rate the steps equal torch's."""
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
    """After 13,740 updates the rate 1e-3 is 8.791982e-4, and a factor of 0.5 halves it."""
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
    """The recipe has rate 1e-3, momentum 0.5, decays 1e-5 and 4e-5, no smoothing or clipping."""
    recipe = loop.recipe_of(loop.Params(recipe="report"))

    assert schedule.TrainingRecipe("report", 1e-3, 0.5, 4e-5, lr_decay=1e-5) == recipe
    assert recipe.stops_early
    optimiser = schedule.optimiser(recipe, network())
    assert isinstance(optimiser, schedule.Nesterov)
    assert [4e-5] == [group["weight_decay"] for group in optimiser.param_groups]


def test_report_recipe_trains_with_adam_too():
    """With Adam the recipe still stops early; its first update is the rate in every coordinate."""
    recipe = loop.recipe_of(loop.Params(recipe="report", optimiser="adam", lr_decay=0))
    made = network()
    optimiser = schedule.optimiser(recipe, made)
    weight = schedule.trained(made)[0][1]
    before = weight.detach().clone()
    weight.grad = torch.randn_like(weight)
    optimiser.step()

    assert schedule.TrainingRecipe("report_adam", 1e-3, 0.9, 4e-5) == recipe
    assert recipe.stops_early
    assert isinstance(optimiser, torch.optim.Adam)
    assert torch.allclose((weight - before).abs(), torch.full_like(weight, 1e-3), rtol=1e-2)


def test_report_recipe_refuses_a_warm_up():
    """The report's recipe begins at its full rate, so that a warm-up would silently do nothing."""
    with pytest.raises(ValueError, match="recipe report has no warm-up"):
        loop.Params(recipe="report", warm_up=0.1)


@pytest.mark.parametrize(
    ("recipe", "optimiser"), [("step", "adamw"), ("fast", "adam"), ("report", "adamw")]
)
def test_optimiser_of_another_recipe_is_refused(recipe, optimiser):
    """An optimiser without effect would be a silent mistake."""
    with pytest.raises(ValueError, match=f"optimiser {optimiser} is for recipe"):
        loop.Params(recipe=recipe, optimiser=optimiser)


def test_one_cycle_rises_and_falls():
    """The rate rises to its maximum over the warm-up and ends at zero."""
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
    """In 78,000 updates the rates equal those of HierNet and of its backbone."""
    recipe = loop.recipe_of(loop.Params(recipe="step", **own))
    found = {step: recipe.rate(step, steps=78_000, factor=1.0) for step in rates}

    assert found == pytest.approx(rates, rel=1e-12)


def test_step_recipe_is_plain_sgd():
    """The recipe uses momentum 0.9 without Nesterov, and weight decay 1e-4 on every weight."""
    recipe = loop.recipe_of(loop.Params(recipe="step"))
    optimiser = schedule.optimiser(recipe, network())
    (group,) = optimiser.param_groups

    assert schedule.TrainingRecipe("step", 0.1, 0.9, 1e-4, cuts=(0.41026, 0.61538)) == recipe
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
    """In recipe fast the warm-up is a quarter of the updates for any optimiser; 0 stays 0."""
    assert expected == loop.recipe_of(loop.Params(**own)).warm_up


def test_cuts_outside_the_training_are_refused():
    """A cut is a share of the updates, so 32,000 is refused."""
    with pytest.raises(ValueError, match=r"cuts\.0"):
        loop.Params(cuts=(32_000,))


def test_fast_recipe_spares_biases_and_slows_convolutions():
    """Matrices decay and vectors do not; named prefixes have a tenth of the rate."""
    recipe = loop.recipe_of(loop.Params())
    groups = schedule.optimiser(recipe, network(), slow=("blocks",)).param_groups

    assert {(0.1, 5e-4), (0.1, 0.0), (1.0, 5e-4), (1.0, 0.0)} == {
        (group["scale"], group["weight_decay"]) for group in groups
    }
