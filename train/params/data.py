"""Section `data` of params.yaml: how images are batched and kept."""

from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

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
    selection: str | None = Field(
        None,
        description="FILE@HASH of `curation select`: train on its samples alone; unset: on all",
    )
    share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of each label's training images that is trained on, chosen by a hash of "
        "their post ids",
    )
    train_on_val: bool = Field(
        default=False,
        description="train on validation images too",
    )

    @model_serializer(mode="wrap")
    def _without_unset(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out what is not set, so that model.json is as older versions wrote it."""
        values: dict[str, Any] = dump(self)
        if self.selection is None:
            values.pop("selection", None)
        if self.share == 1:
            values.pop("share", None)
        return values
