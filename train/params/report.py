"""Section `report` of params.yaml: what the page shows."""

from pydantic import BaseModel, ConfigDict, Field


class Params(BaseModel):
    """Section `report`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples: int = Field(
        10, ge=0, le=50, description="test images of each label in the mosaic; ten fill a line"
    )
    resamples: int = Field(
        10_000, ge=100, le=1_000_000, description="bootstrap resamples behind each interval"
    )
    seed: int = Field(0, ge=0, description="seed of the bootstrap and of the mosaic")
    confusions: int = Field(
        12, ge=0, le=1000, description="rows in the table of worst confusions; a screen full"
    )
    suspects: int = Field(
        5, ge=0, le=1000, description="samples of each label in the table of doubtful labels"
    )
