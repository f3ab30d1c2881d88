"""Section `hiernet` of params.yaml: what the groups share, and how they are trained."""

from pydantic import BaseModel, ConfigDict, Field

from personae.balance import Balance


class Params(BaseModel):
    """Section `hiernet`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: int | None = Field(
        None,
        ge=0,
        le=1000,
        description="blocks after the first one (a resnet's stem) that all "
        "groups share; unset: as published for resnet20 to resnet110, else 60 % of the blocks",
    )
    deeper_splits: tuple[int, ...] | None = Field(
        None,
        description="the same for each deeper level of a tree of several levels; unset: half of the "
        "blocks that are left",
    )
    group_blocks: int | None = Field(
        None,
        ge=0,
        le=1000,
        description="own blocks of each group head (A_add), copies of those that "
        "follow the split; unset: as published, else 20 % of the blocks, at least one",
    )
    transfer: bool = Field(
        default=True,
        description="every block starts from the flat network of the same seed, else from scratch",
    )
    prune_singletons: bool = Field(
        default=True,
        description="no branch for a group of one label; the paper has such branches, "
        "with more parameters and the same probabilities",
    )
    epochs: int | None = Field(
        None, ge=1, le=10_000, description="passes over the training set; unset: loop.epochs"
    )
    lr_scale: float = Field(
        1.0, gt=0, le=10, description="learning rate after the transfer, relative to loop.lr"
    )
    balance: Balance = Field(
        "none",
        description="equal numbers of images per label: resample (drawn anew each epoch), "
        "fixed (drawn once), weights (all images, weighted loss); none: all images (as in the "
        "paper)",
    )
