"""
The arithmetic of the training recipes: learning rates, early stopping and the update rule.

`report` follows the Uppsala report; `step` follows HierNet and its backbones; `fast` is a one-cycle
schedule (Smith and Topin, Super-Convergence, 2019). All numbers: docs/methods/training.md.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

PLATEAU_EPOCHS = 4  # epochs without a lower validation loss after which `report` halves the rate
STOP_EPOCHS = 8  # epochs without a lower validation loss after which `report` stops


@dataclass(frozen=True, slots=True)
class TrainingRecipe:
    """The numbers of a training recipe, without defaults left open."""

    name: str
    """report, report_adam, step, fast_sgd or fast_adamw."""
    lr: float
    momentum: float
    weight_decay: float
    lr_decay: float = 0.0
    """Decay of the learning rate per update; recipe report."""
    warm_up: float = 0.0
    """Share of the updates before the peak: with a rising rate (fast), at a tenth of it (step)."""
    cuts: tuple[float, ...] = ()
    """Shares of all updates at which recipe step divides the rate by 10."""
    label_smoothing: float = 0.0
    ema: float = 0.0
    """Decay per update of the exponential moving average of the weights; 0: no average."""
    clip: float = 0.0
    """Largest norm of the gradient; 0: no limit."""

    @property
    def stops_early(self) -> bool:
        """Whether the validation loss halves the rate, stops the training and selects the weights."""
        return self.name in ("report", "report_adam")

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
        TrainingRecipe("report", lr=1e-3, momentum=0.5, weight_decay=4e-5),
        TrainingRecipe("report_adam", lr=1e-3, momentum=0.9, weight_decay=4e-5),
        TrainingRecipe("step", lr=0.1, momentum=0.9, weight_decay=1e-4),
        TrainingRecipe("fast_sgd", lr=0.05, momentum=0.9, weight_decay=5e-4, warm_up=0.25),
        TrainingRecipe("fast_adamw", lr=3e-3, momentum=0.9, weight_decay=0.05, warm_up=0.25),
    )
}


def optimiser(
    recipe: TrainingRecipe, network: nn.Module, *, slow: tuple[str, ...] = ()
) -> Optimizer:
    """
    Returns the recipe's optimiser over the trainable weights.

    Each parameter group has a `scale` for the learning rate: 0.1 for names that start with one of
    `slow`, else 1. The fast recipes do not decay biases and norms; the other recipes do.
    """
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, weight in trained(network):
        scale = 0.1 if slow and name.startswith(slow) else 1.0
        undecayed = recipe.name in ("fast_sgd", "fast_adamw") and weight.ndim < 2
        groups.setdefault((scale, 0.0 if undecayed else recipe.weight_decay), []).append(weight)
    options = [
        {"params": weights, "scale": scale, "weight_decay": decay}
        for (scale, decay), weights in groups.items()
    ]
    momentum = recipe.momentum
    if recipe.name == "report":
        return Nesterov(options, lr=recipe.lr, momentum=momentum)
    if recipe.name == "report_adam":
        return torch.optim.Adam(options, lr=recipe.lr, betas=(momentum, 0.999))
    if recipe.name == "fast_adamw":
        return torch.optim.AdamW(options, lr=recipe.lr, betas=(momentum, 0.999))
    nesterov = recipe.name == "fast_sgd" and momentum > 0
    return torch.optim.SGD(options, lr=recipe.lr, momentum=momentum, nesterov=nesterov)


def trained(network: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Returns the trainable weights with their names."""
    return [(name, weight) for name, weight in network.named_parameters() if weight.requires_grad]


@dataclass(frozen=True, slots=True)
class Plateau:
    """The state of the report's recipe after some epochs: its best loss and its rate factor."""

    epoch: int = 0
    """Number of epochs so far; the first epoch is 1."""
    best: float = math.inf
    best_epoch: int = 0
    waited: int = 0
    """Epochs since the last lower loss or the last halving."""
    factor: float = 1.0
    """Factor for the learning rate: 1/2 for each halving."""

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
        """Whether the recipe stops the training."""
        return self.epoch - self.best_epoch >= STOP_EPOCHS


def decayed(base: float, step: int, *, decay: float) -> float:
    """
    Returns base / (1 + decay * step), the decay of Keras's SGD; `step` counts updates from 0.

    Example:
        1e-3 with 1e-5 after 13,740 updates is 8.791982e-4.
    """
    return base / (1 + decay * step)


def one_cycle(base: float, step: int, *, steps: int, warm_up: float) -> float:
    """Returns the rate of update `step` of `steps`, from 0: linear up to `base`, cosine down to 0."""
    rising = max(1.0, warm_up * steps)
    if step + 1 <= rising:
        return base * (step + 1) / rising
    share = (step + 1 - rising) / max(1.0, steps - rising)
    return base * (1 + math.cos(math.pi * min(1.0, share))) / 2


def stepped(
    base: float, step: int, *, steps: int, warm_up: float, cuts: tuple[float, ...]
) -> float:
    """
    Returns the rate of update `step` of `steps`, from 0.

    The rate is a tenth of `base` during the warm-up, then `base`, divided by 10 at each of `cuts`.
    Warm-up and cuts are shares of all updates, rounded to the nearest update.

    Example:
        HierNet's 0.1 in 78,000 updates, 2,000 of them warm-up, with cuts at 34,000 and 50,000:
        0.01 from update 0, 0.1 from 2,000, 0.01 from 34,000, 0.001 from 50,000.
    """
    if step < round(warm_up * steps):
        return base / 10
    return float(base / 10 ** sum(step >= round(cut * steps) for cut in cuts))


class Nesterov(Optimizer):
    r"""
    Stochastic gradient descent with Nesterov's momentum, in the form of Keras 2.

    $$v \leftarrow m v - \eta g, \qquad w \leftarrow w + m v - \eta g$$

    with the weight decay term added to the gradient g first.

    `SGD(nesterov=True)` of torch keeps the learning rate out of the velocity. The two optimisers
    agree only while the learning rate is constant; that of the report decays at every update.

    Example:
        On f(w) = w²/2 from 1 with rate 0.1 and momentum 0.5: 0.85, 0.6975, 0.559125.
    """

    def __init__(
        self, params: Iterable[Any], *, lr: float, momentum: float, weight_decay: float = 0.0
    ) -> None:
        """Takes parameters or parameter groups, like every torch optimiser."""
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # torch types it twice
        """Applies one update to every parameter that has a gradient; takes no closure."""
        if closure is not None:
            raise TypeError("this optimiser evaluates no closure")
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
