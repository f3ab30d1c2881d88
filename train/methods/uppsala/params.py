"""Section `uppsala` of params.yaml: how the tree of networks is built and trained."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from train.data import sampling


class Params(BaseModel):
    """Section `uppsala`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root_init: Literal["flat", "scratch"] = Field(
        "flat", description="root starts from the flat network of the same seed, or from scratch"
    )
    freeze: Literal["conv", "last_block", "none"] = Field(
        "conv",
        description="convolutions that subnetworks share without training: all (the report), "
        "all but the last block, none",
    )
    balance: sampling.Balance = Field(
        "resample",
        description="equal images per cluster at the root and per label below: resample (drawn "
        "anew each epoch), fixed (the report), weights (all images, weighted loss), none",
    )
    depth: int | None = Field(
        None,
        ge=2,
        le=100,
        description="largest number of networks on a path: a cluster is divided if its "
        "subnetwork confuses its labels in groups; null: the tree of the grouping is not changed",
    )
    rollback: int = Field(
        0,
        ge=0,
        le=100,
        description="attempts after the first choice: a subnetwork learns to reject the "
        "images of the other clusters, and its parent then takes the next likeliest; 0: none (the "
        "report)",
    )
    root_epochs: int | None = Field(
        None, ge=1, le=10_000, description="passes of the root; null: loop.epochs"
    )
    subnetwork_epochs: int | None = Field(
        None, ge=1, le=10_000, description="passes of each subnetwork; null: loop.epochs"
    )
    lr_scale: float = Field(
        1.0,
        gt=0,
        le=10,
        description="learning rate of networks that start from trained weights, relative to loop.lr",
    )
