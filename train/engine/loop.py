"""
Section `loop`: turns training parameters into a recipe, a device and a number of threads.

`trainer` trains with them.
"""

import os
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from personae.errors import BadParams
from train.engine import schedule
from train.runtime import distributed, memory


class Params(BaseModel):
    """Section `loop`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Literal["report", "step", "fast"] = Field(
        "fast",
        description="report: as in the Uppsala report; step: as in HierNet; fast: one cycle",
    )
    epochs: int = Field(30, ge=1, le=10_000, description="passes over the training set, at most")
    max_seconds: float | None = Field(None, gt=0, description="limit in seconds for each network")
    max_train_flops: float | None = Field(None, gt=0, description="limit in FLOPs for each network")
    lr: float | None = Field(
        None,
        gt=0,
        description="peak learning rate; unset: as in the recipe",
    )
    momentum: float | None = Field(
        None, ge=0, lt=1, description="SGD momentum, or beta1 of AdamW; unset: value of the recipe"
    )
    weight_decay: float | None = Field(
        None,
        ge=0,
        description="weight decay; unset: as in the recipe",
    )
    lr_decay: float = Field(1e-5, ge=0, description="report: decay of the learning rate per update")
    optimiser: Literal["sgd", "adamw"] = Field("sgd", description="optimiser of recipe fast")
    warm_up: float | None = Field(
        None,
        ge=0,
        le=1,
        description="warm-up fraction; unset: as in the recipe",
    )
    cuts: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        (0.41026, 0.61538),
        description="step: divide the rate by 10 at these fractions of training",
    )
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="fast: label smoothing, 0..1")
    ema: float = Field(0.98, ge=0, lt=1, description="fast: decay of averaged weights; 0: none")
    clip: float = Field(1.0, ge=0, description="fast: largest gradient norm; 0: no limit")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="number format of forward passes in training"
    )
    channels_last: bool = Field(True, description="memory layout, faster on CPUs")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: a GPU if there is one"
    )
    accumulate: int = Field(
        1,
        ge=1,
        le=4096,
        description="gradient accumulation: parts of each batch",
    )
    jobs: int = Field(1, ge=1, le=256, description="networks trained at once")
    threads: int | None = Field(
        None, ge=1, le=1024, description="CPU threads per network; unset: all cores"
    )

    @model_validator(mode="after")
    def _check_jobs(self) -> "Params":
        if self.jobs > 1 and distributed.launched() > 1:
            raise ValueError("jobs works within one process: set it to 1 under torchrun")
        return self


def prepare(params: Params, *, at_once: int = 1) -> torch.device:
    """
    Sets threads and deterministic algorithms, and returns the device to train on.

    Args:
        params: Section `loop`.
        at_once: Number of training processes that share this machine.

    Raises:
        BadParams: `loop.device` is cuda, and torch finds no accelerator.
    """
    available = torch.cuda.is_available()
    if params.device == "cuda" and not available:
        raise BadParams(
            "loop.device is cuda, and torch finds no accelerator here. Set it to auto or cpu."
        )
    memory.keep_freed()
    torch.use_deterministic_algorithms(mode=True)
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32
    # Filling fresh memory is a debugging aid. No code here reads memory before writing it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # set by a property of the module
    torch.set_num_threads(threads(params, at_once=at_once))
    if available and params.device != "cpu":
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def threads(params: Params, *, at_once: int = 1) -> int:
    """Returns the CPU threads of one network when `at_once` networks are trained at once."""
    processes = at_once * distributed.launched()
    return params.threads or max(1, (os.cpu_count() or 1) // processes)


def recipe_of(params: Params) -> schedule.TrainingRecipe:
    """Returns the recipe of the section; a parameter of None takes the recipe's own value."""
    name = f"fast_{params.optimiser}" if params.recipe == "fast" else params.recipe
    recipe = schedule.RECIPES[name]
    given = {key: getattr(params, key) for key in ("lr", "momentum", "weight_decay")}
    recipe = replace(recipe, **{key: value for key, value in given.items() if value is not None})
    if name == "report":
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
