"""Section `hdcnn` of params.yaml: what the components share, and how they are trained."""

from pydantic import BaseModel, ConfigDict, Field

from personae.balance import Balance


class Params(BaseModel):
    """Section `hdcnn`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: bool = Field(
        True,
        description="the components share the first blocks; false: every component is a whole "
        "network (the paper's variant without shared layers)",
    )
    split: int | None = Field(
        None,
        ge=0,
        le=1000,
        description="blocks after the first one (a resnet's stem) that all "
        "components share; unset: about a third of the operations (a resnet's first stage, the "
        "first block of nin)",
    )
    component_epochs: int | None = Field(
        None, ge=1, le=10_000, description="passes of each fine component; unset: loop.epochs"
    )
    joint_epochs: int | None = Field(
        None,
        ge=0,
        le=10_000,
        description="passes of the joint training afterwards; 0: none, unset: loop.epochs",
    )
    component_lr_scale: float = Field(
        1.0, gt=0, le=10, description="learning rate of a fine component, relative to loop.lr"
    )
    joint_lr_scale: float = Field(
        0.1, gt=0, le=10, description="learning rate of the joint training, relative to loop.lr"
    )
    consistency: float = Field(
        5.0,
        ge=0,
        le=1000,
        description="lambda, weight of the coarse category consistency in the "
        "joint training; 0: without",
    )
    beta: float | None = Field(
        None,
        gt=0,
        le=1e9,
        description="a component is executed for images with a coarse weight of at least "
        "1 / (beta K), for K sets (the paper: 6); unset: every component for every image",
    )
    balance: Balance = Field(
        "none",
        description="equal numbers of images per label: resample (drawn anew each epoch), "
        "fixed (drawn once), weights (all images, weighted loss); none: all images (as in the "
        "paper, whose data are balanced)",
    )
