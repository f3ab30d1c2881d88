"""
Section `loop`: turns training parameters into a recipe, limits, a device and a number of threads.

`trainer` trains with them.
"""

import math
import os
from dataclasses import replace

import torch

from personae.errors import BadParams
from train.classifier import Budget
from train.engine import schedule
from train.params.loop import Params
from train.runtime import distributed, memory


def prepare(params: Params, *, at_once: int = 1) -> torch.device:
    """
    Sets threads and deterministic algorithms, and returns the device to train on.

    Args:
        params: Section `loop`.
        at_once: Number of training processes that share this machine.

    Raises:
        BadParams: `loop.device` is cuda, and torch finds no accelerator; or `loop.jobs` is above 1
            under torchrun.
    """
    if params.jobs > 1 and distributed.launched() > 1:
        raise BadParams("loop.jobs works within one process. Set it to 1 under torchrun.")
    available = torch.cuda.is_available()
    if params.device == "cuda" and not available:
        raise BadParams(
            "loop.device (--device) is cuda, and torch finds no accelerator here. Set it to auto or cpu."
        )
    memory.keep_freed()
    torch.use_deterministic_algorithms(mode=True)
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32
    # Filling fresh memory is a debugging aid. No code here reads memory before writing it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # set by a property of the module
    torch.set_num_threads(threads(params, at_once=at_once))
    if available and params.device != "cpu":
        return torch.device("cuda", distributed.local_rank())
    return torch.device("cpu")


def threads(params: Params, *, at_once: int = 1) -> int:
    """Returns the CPU threads of one network when `at_once` networks are trained at once."""
    processes = at_once * distributed.launched()
    return params.threads or max(1, (os.cpu_count() or 1) // processes)


def recipe_of(params: Params) -> schedule.TrainingRecipe:
    """Returns the recipe of the section; a parameter of None takes the recipe's own value."""
    name = f"fast_{params.optimiser}" if params.recipe == "fast" else params.recipe
    if params.recipe == "report" and params.optimiser == "adam":
        name = "report_adam"
    recipe = schedule.RECIPES[name]
    given = {key: getattr(params, key) for key in ("lr", "momentum", "weight_decay")}
    recipe = replace(recipe, **{key: value for key, value in given.items() if value is not None})
    if recipe.stops_early:
        return replace(recipe, lr_decay=params.lr_decay)
    if params.warm_up is not None:
        recipe = replace(recipe, warm_up=params.warm_up)
    if name == "step":
        return replace(recipe, cuts=params.cuts)
    return replace(
        recipe,
        label_smoothing=params.label_smoothing,
        ema=params.ema,
        clip=params.clip,
    )


def passes(params: Params, own: int | None, *, updates: int) -> int:
    """
    Returns the epochs of a network, at least `loop.min_updates`.

    Args:
        params: Section `loop`.
        own: Epochs of this network; None: `loop.epochs`.
        updates: Updates of one epoch.
    """
    epochs = params.epochs if own is None else own
    return max(epochs, math.ceil((params.min_updates or 0) / updates))


def budget(params: Params, *, epochs: int, epoch_flops: float) -> Budget:
    """Returns the limits; one in operations becomes one in epochs, so that the cycle is complete."""
    limits = Budget(epochs, params.max_seconds, params.max_train_flops)
    if limits.max_train_flops is None:
        return limits
    affordable = max(1, int(limits.max_train_flops // epoch_flops))
    return replace(limits, max_epochs=min(limits.max_epochs, affordable))
