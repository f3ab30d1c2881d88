"""Section `data` of params.yaml: how images are batched and kept."""

from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
)

from personae.storage.address import Address

Storage = Literal["auto", "cache", "device", "stream"]


class Source(BaseModel):
    """Where the shards are read: the part of section `data` that `evaluate` has too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str | None = Field(
        None,
        description="read the shards at this URL, such as s3://bucket/folder, written by `curation "
        "push`; unset: in the data folder",
    )
    cache_bytes: int = Field(
        50 << 30,
        ge=0,
        description="with a URL: most bytes of the shards that are kept in work/cache/storage",
    )

    @field_validator("url")
    @classmethod
    def _without_credentials(cls, url: str | None) -> str | None:
        # An error of pydantic would repeat the URL; `BadParams` passes through it.
        return None if url is None else Address.parse(url).url


class Params(Source):
    """Section `data`."""

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
        """
        Leaves out what is not set, so that model.json is as older versions wrote it.

        It never says where the shards were read: their root hash names them.
        """
        values: dict[str, Any] = dump(self)
        for name in Source.model_fields:
            values.pop(name, None)
        if self.selection is None:
            values.pop("selection", None)
        if self.share == 1:
            values.pop("share", None)
        return values
