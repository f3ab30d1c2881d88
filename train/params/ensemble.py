"""Section `ensemble` of params.yaml: how many flat networks."""

from pydantic import BaseModel, ConfigDict, Field

from personae.balance import Balance


class Params(BaseModel):
    """Section `ensemble`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    members: int = Field(
        2, ge=1, le=100, description="flat networks, each with its own random initialisation"
    )
    balance: Balance = Field(
        "none", description="equal numbers of images per label, as in section flat"
    )
