"""Section `merged` of params.yaml: what the branches share, and how far they are adapted."""

from pydantic import BaseModel, ConfigDict, Field

from personae.balance import Balance


class Params(BaseModel):
    """Section `merged`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    merge: int = Field(
        2,
        ge=0,
        le=3,
        description="stages of three that both branches share: 0 none, not even the "
        "stem, 3 everything but the heads; a stage is a third of the blocks after the first one "
        "(those of a resnet; a densenet's transition ends its stage). The paper's best are 1 and 2",
    )
    separate: bool = Field(
        default=False,
        description="with merge: 0, train the branches as two networks, one after "
        "the other, instead of together",
    )
    stop_gradient: bool = Field(
        default=False,
        description="the shared blocks get no gradient from the category branch",
    )
    coarse_weight: float = Field(
        1.0, gt=0, le=100, description="weight of the categories' loss beside that of the labels"
    )
    alpha_coarse: float | None = Field(
        None,
        ge=0,
        le=2,
        description="adaptation of the category probabilities: 0 none, 1 to the mean, 2 "
        "to the sums of the label probabilities; unset: chosen on the validation images",
    )
    alpha_fine: float | None = Field(
        None,
        ge=0,
        le=2,
        description="adaptation of the label probabilities: 0 none, 1 to the mean, 2 to "
        "the category probabilities; unset: chosen on the validation images",
    )
    transfer: bool = Field(
        default=False,
        description="every block starts from the flat network of the same seed, else from "
        "scratch (as in the paper)",
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
