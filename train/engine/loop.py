"""
How networks are trained: section `loop`, settled into a recipe and a device.

`trainer` does what is settled here.
"""

import os
from dataclasses import replace
from typing import Annotated, Literal, Self

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
        description="report: the report's recipe exactly, which needs tens of thousands of "
        "images; step: HierNet's, the rate divided by 10 at cuts; fast: one cycle of the rate, "
        "label smoothing, averaged weights",
    )
    epochs: int = Field(
        30, ge=1, le=10_000, description="passes over the training set; report: at most so many"
    )
    max_seconds: float | None = Field(
        None,
        gt=0,
        description="stop a network after so many seconds (results then depend on speed)",
    )
    max_train_flops: float | None = Field(
        None, gt=0, description="train a network for at most so many floating-point operations"
    )
    lr: float | None = Field(
        None,
        gt=0,
        description="learning rate at its highest; null: 1e-3 (report), 0.1 (step), "
        "0.05 (fast sgd), 3e-3 (fast adamw)",
    )
    momentum: float | None = Field(
        None, ge=0, lt=1, description="of SGD; null: 0.5 (report), 0.9 (step, fast)"
    )
    weight_decay: float | None = Field(
        None,
        ge=0,
        description="null: 4e-5 on all weights (report; 8e-5 if its source meant a "
        "penalty), 1e-4 on all weights (step), 5e-4 on matrices (fast sgd), 0.05 (fast adamw)",
    )
    lr_decay: float = Field(1e-5, ge=0, description="per update, recipe report only; the report's")
    optimiser: Literal["sgd", "adamw"] = Field("sgd", description="recipe fast only")
    warm_up: float | None = Field(
        None,
        ge=0,
        le=1,
        description="share of the updates with rising rate (fast; null: 0.25), or "
        "at a tenth of it (step; null: none; HierNet 0.02564); not of recipe report",
    )
    cuts: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        (0.41026, 0.61538),
        description="shares of all updates after which the rate is divided by 10, recipe step only; "
        "32,000 and 48,000 of 78,000 (HierNet 0.4359 0.64103, its 34,000 and 50,000)",
    )
    label_smoothing: float = Field(
        0.1, ge=0, lt=1, description="share of the target spread over all outputs, recipe fast only"
    )
    ema: float = Field(
        0.98,
        ge=0,
        lt=1,
        description="decay per update of the averaged weights that are kept, 0: "
        "the last weights; recipe fast only",
    )
    clip: float = Field(
        1.0, ge=0, description="largest norm of the gradient, 0: any; recipe fast only"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of convolutions and products while training; loss in float32"
    )
    channels_last: bool = Field(True, description="memory layout; 1.4 to 1.8 times as fast on CPUs")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: an accelerator if there is one"
    )
    accumulate: int = Field(
        1,
        ge=1,
        le=4096,
        description="parts of a batch that are computed one after the other, for "
        "batches that do not fit the memory",
    )
    jobs: int = Field(
        1,
        ge=1,
        le=256,
        description="networks that do not wait for one another and are trained at "
        "once, each in a process of its own; results do not depend on it where threads is set",
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="of the CPU, for each network; null: all cores, divided "
        "among the networks that jobs trains at once and among the processes of torchrun",
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.jobs > 1 and distributed.expected() > 1:
            raise ValueError("jobs works within one process: set it to 1 under torchrun")
        return self


def prepare(params: Params, *, at_once: int = 1) -> torch.device:
    """
    Sets threads and deterministic algorithms, and returns the device to train on.

    `at_once` is the number of processes like this one that share the machine.

    Raises:
        BadParams: An accelerator is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if params.device == "cuda" and not available:
        raise BadParams(
            "loop.device is cuda, and torch finds no accelerator here. Set it to auto or cpu."
        )
    memory.keep()
    torch.use_deterministic_algorithms(mode=True)
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32
    # Filling fresh memory is a debugging aid; nothing here reads what it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # set by a property of the module
    torch.set_num_threads(threads(params, at_once=at_once))
    if available and params.device != "cpu":
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def threads(params: Params, *, at_once: int = 1) -> int:
    """Returns the CPU threads of one network where so many are trained at once."""
    together = at_once * distributed.expected()
    return params.threads or max(1, (os.cpu_count() or 1) // together)


def recipe_of(params: Params) -> schedule.Recipe:
    """Returns the recipe that the section asks for, with the recipe's own value where it is null."""
    name = f"fast_{params.optimiser}" if params.recipe == "fast" else params.recipe
    own = schedule.RECIPES[name]
    given = {key: getattr(params, key) for key in ("lr", "momentum", "weight_decay")}
    own = replace(own, **{key: value for key, value in given.items() if value is not None})
    if name == "report":
        return replace(own, lr_decay=params.lr_decay)
    own = replace(own, warm_up=own.warm_up if params.warm_up is None else params.warm_up)
    if name == "step":
        return replace(own, cuts=params.cuts)
    return replace(
        own,
        label_smoothing=params.label_smoothing,
        ema=params.ema,
        clip=params.clip,
    )
