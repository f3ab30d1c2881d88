"""Section `data` of params.yaml: how images are batched and kept."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Storage = Literal["auto", "cache", "device", "stream"]


class Params(BaseModel):
    """Section `data`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_size: int = Field(128, ge=1, le=65_536, description="images per update")
    side: int | None = Field(
        None,
        ge=8,
        le=2048,
        description="stop if shards have another side; unset: any",
    )
    storage: Storage = Field(
        "auto",
        description="where decoded images are kept; same results",
    )
    train_on_val: bool = Field(
        default=False,
        description="train on validation images too",
    )
