"""Section `flat` of params.yaml: how images are balanced."""

from pydantic import BaseModel, ConfigDict, Field

from train.params.balance import Balance


class Params(BaseModel):
    """Section `flat`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    balance: Balance = Field(
        "none",
        description="equal numbers of images per label: resample (drawn anew each epoch), "
        "fixed (drawn once), weights (all images, weighted loss); none: all images, as `curation` "
        "has already balanced the labels",
    )
