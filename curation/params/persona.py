"""Section `persona` of params.yaml: how many samples a label needs, and how labels are balanced."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Params(BaseModel):
    """Section `persona`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_samples: int = Field(
        100,
        ge=1,
        description="least samples of a label after `duplicates`; a smaller label is left out",
    )
    balance: Literal["equal", "cap", "none"] = Field(
        "equal",
        description="equal: as many of each label as the smallest label has; cap: at most `cap` of "
        "each label; none: all",
    )
    cap: int | None = Field(
        None,
        ge=1,
        description="largest number of samples of a label, also for `equal`; unset: no limit",
    )

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if (self.balance == "cap" and self.cap is None) or (self.balance == "none" and self.cap):
            raise ValueError(f"balance '{self.balance}' does not go with cap {self.cap}")
        return self
