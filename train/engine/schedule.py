"""
Learning rates, stopping and the update rule: the arithmetic of the recipes, without a network.

`report` follows methods.md 1.2 to the letter; `step` is HierNet's and its backbones' (methods.md
5.3); `fast` is a one-cycle schedule (methods.md 9.8).
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

PLATEAU_EPOCHS = 4  # the report halves the rate after so many epochs without decrease
STOP_EPOCHS = 8  # and stops after so many


@dataclass(frozen=True, slots=True)
class Recipe:
    """How weights are updated, with every number settled."""

    name: str
    """report, step, fast_sgd or fast_adamw."""
    lr: float
    momentum: float
    weight_decay: float
    lr_decay: float = 0.0
    """Per update; the report's."""
    warm_up: float = 0.0
    """Share of the updates with rising rate; step: at a tenth of the rate."""
    cuts: tuple[float, ...] = ()
    """Shares of all updates after which step divides the rate by 10."""
    label_smoothing: float = 0.0
    ema: float = 0.0
    """Decay per update of the averaged weights; 0: none are kept."""
    clip: float = 0.0
    """Largest norm of the gradient; 0: any."""

    @property
    def stops_early(self) -> bool:
        """Whether validation loss cuts the rate, ends the training and chooses the weights."""
        return self.name == "report"

    def rate(self, step: int, *, steps: int, factor: float) -> float:
        """Returns the learning rate of update `step` of `steps`; `factor` is that of `Plateau`."""
        if self.stops_early:
            return decayed(self.lr, step, decay=self.lr_decay) * factor
        if self.name == "step":
            return stepped(self.lr, step, steps=steps, warm_up=self.warm_up, cuts=self.cuts)
        return one_cycle(self.lr, step, steps=steps, warm_up=self.warm_up)


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("report", lr=1e-3, momentum=0.5, weight_decay=4e-5),
        Recipe("step", lr=0.1, momentum=0.9, weight_decay=1e-4),
        Recipe("fast_sgd", lr=0.05, momentum=0.9, weight_decay=5e-4, warm_up=0.25),
        Recipe("fast_adamw", lr=3e-3, momentum=0.9, weight_decay=0.05, warm_up=0.25),
    )
}


def optimiser(recipe: Recipe, network: nn.Module, *, slow: tuple[str, ...] = ()) -> Optimizer:
    """
    Returns the recipe's optimiser over the weights that learn.

    Each group carries its `scale` of the rate: 0.1 for names that begin with one of `slow`. The
    fast recipes spare biases and norms from the decay (methods.md 9.8), the others do not.
    """
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, weight in trained(network):
        scale = 0.1 if slow and name.startswith(slow) else 1.0
        spared = recipe.name in ("fast_sgd", "fast_adamw") and weight.ndim < 2
        groups.setdefault((scale, 0.0 if spared else recipe.weight_decay), []).append(weight)
    options = [
        {"params": weights, "scale": scale, "weight_decay": decay}
        for (scale, decay), weights in groups.items()
    ]
    momentum = recipe.momentum
    if recipe.name == "report":
        return Nesterov(options, lr=recipe.lr, momentum=momentum)
    if recipe.name == "fast_adamw":
        return torch.optim.AdamW(options, lr=recipe.lr, betas=(momentum, 0.999))
    nesterov = recipe.name == "fast_sgd" and momentum > 0
    return torch.optim.SGD(options, lr=recipe.lr, momentum=momentum, nesterov=nesterov)


def trained(network: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Returns the named weights that learn."""
    return [(name, weight) for name, weight in network.named_parameters() if weight.requires_grad]


@dataclass(frozen=True, slots=True)
class Plateau:
    """What the report's recipe remembers of the validation losses seen so far."""

    epoch: int = 0
    """Epochs seen; the first one is 1."""
    best: float = math.inf
    best_epoch: int = 0
    waited: int = 0
    """Epochs since the last decrease or cut."""
    factor: float = 1.0
    """What the cuts have made of the learning rate."""

    def after(self, loss: float) -> "Plateau":
        """
        Returns the state after an epoch with this validation loss.

        Example:
            1.0 .9 .91 .92 .93 .94 .95 .96 .97 .98: best at epoch 2, halved at the end of epochs 6
            and 10, stopped at the end of epoch 10.
        """
        epoch = self.epoch + 1
        if loss < self.best:
            return replace(self, epoch=epoch, best=loss, best_epoch=epoch, waited=0)
        if self.waited + 1 == PLATEAU_EPOCHS:
            return replace(self, epoch=epoch, waited=0, factor=self.factor / 2)
        return replace(self, epoch=epoch, waited=self.waited + 1)

    @property
    def stopped(self) -> bool:
        """Whether the recipe ends here."""
        return self.epoch - self.best_epoch >= STOP_EPOCHS


def decayed(base: float, step: int, *, decay: float) -> float:
    """
    Returns base / (1 + decay * step), the report's decay per update (step from 0).

    Example:
        1e-3 with 1e-5 after 13,740 updates is 8.791982e-4.
    """
    return base / (1 + decay * step)


def one_cycle(base: float, step: int, *, steps: int, warm_up: float) -> float:
    """Returns the rate of update `step` (from 0) of `steps`: linear up to `base`, cosine down to 0."""
    rising = max(1.0, warm_up * steps)
    if step + 1 <= rising:
        return base * (step + 1) / rising
    share = (step + 1 - rising) / max(1.0, steps - rising)
    return base * (1 + math.cos(math.pi * min(1.0, share))) / 2


def stepped(
    base: float, step: int, *, steps: int, warm_up: float, cuts: tuple[float, ...]
) -> float:
    """
    Returns the rate of update `step` (from 0) of `steps`: a tenth of `base` during the warm-up,
    then `base`, divided by 10 at each of `cuts`.

    Warm-up and cuts are shares of all updates, rounded to the nearest one.

    Example:
        HierNet's 0.1 in 78,000 updates, 2,000 of them warm-up, with cuts at 34,000 and 50,000:
        0.01 from update 0, 0.1 from 2,000, 0.01 from 34,000, 0.001 from 50,000 (methods.md 5.3).
    """
    if step < round(warm_up * steps):
        return base / 10
    return float(base / 10 ** sum(step >= round(cut * steps) for cut in cuts))


class Nesterov(Optimizer):
    r"""
    Stochastic gradient descent with Nesterov's momentum, as the report's Keras does it.

    $$v \leftarrow m v - \eta g, \qquad w \leftarrow w + m v - \eta g$$

    with weight decay added to the gradient g first (methods.md 1.2).

    Differs:
        torch's `SGD(nesterov=True)` keeps the rate out of the velocity; the two agree as long as
        the rate is constant, and the report's is cut at every update.

    Example:
        On f(w) = w²/2 from 1 with rate 0.1 and momentum 0.5: 0.85, 0.6975, 0.559125.
    """

    def __init__(
        self, params: Iterable[Any], *, lr: float, momentum: float, weight_decay: float = 0.0
    ) -> None:
        """Takes parameters or groups of them, as every torch optimiser."""
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # there is no closure to evaluate
        """Applies one update to every parameter that has a gradient."""
        del closure
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, group)

    def _update(self, weight: Tensor, group: dict[str, Any]) -> None:
        gradient = weight.grad.add(weight, alpha=group["weight_decay"])  # type: ignore[union-attr]  # the caller has checked that it is there
        state = self.state[weight]
        if "velocity" not in state:
            state["velocity"] = torch.zeros_like(weight)
        velocity: Tensor = state["velocity"]
        velocity.mul_(group["momentum"]).sub_(gradient, alpha=group["lr"])
        weight.add_(velocity, alpha=group["momentum"]).sub_(gradient, alpha=group["lr"])
