"""Section `uppsala` of params.yaml: how the tree of networks is built and trained."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from personae.balance import Balance


class Params(BaseModel):
    """Section `uppsala`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root_init: Literal["flat", "scratch"] = Field(
        "flat", description="root starts from the flat network or scratch"
    )
    freeze: Literal["conv", "last_block", "none"] = Field(
        "conv",
        description="convolutions taken from the root and frozen in subnetworks: "
        "all, all but the last block, or none",
    )
    balance: Balance = Field(
        "resample",
        description="how classes are balanced (clusters in the root, labels in "
        "subnetworks): resample (anew each epoch), fixed (as in the Uppsala report), "
        "weights (of the loss), none",
    )
    depth: int | None = Field(
        None,
        ge=2,
        le=100,
        description="largest number of networks on a path: a cluster is divided again if its "
        "subnetwork shows groups of confused labels; unset: keep the tree of the grouping",
    )
    rollback: int = Field(
        0,
        ge=0,
        le=100,
        description="further clusters tried after a rejection; each subnetwork "
        "learns to reject images of other clusters. 0: off",
    )
    root_epochs: int | None = Field(
        None, ge=1, le=10_000, description="epochs of the root; unset: loop.epochs"
    )
    subnetwork_epochs: int | None = Field(
        None, ge=1, le=10_000, description="epochs of each subnetwork; unset: loop.epochs"
    )
    lr_scale: float = Field(
        1.0,
        gt=0,
        le=10,
        description="factor for loop.lr when fine-tuning",
    )
