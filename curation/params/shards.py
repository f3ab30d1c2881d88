"""Section `shards` of params.yaml: samples per shard, their order, and what they say of their origin."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Params(BaseModel):
    """Section `shards`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples_per_shard: int = Field(
        1000,
        ge=1,
        description="samples in a shard; the last of a split may have fewer. 1000 images of a "
        "few kilobytes make a file that copies fast and still spreads over workers",
    )
    boundaries: Literal["count", "hash"] = Field(
        "count",
        description="where a shard ends; count: after `samples_per_shard` samples; hash: by the hash of "
        "the post id, so that a removed or new sample changes its own shard alone. A split then has "
        "1, 2, 4, … shards with `samples_per_shard` samples at most on average",
    )
    provenance: bool = Field(
        False,
        description="write original, source, artist, rating and licence of each sample into its JSON, "
        "for a data set that is passed on; they are in the catalog either way",
    )
    seed: int = Field(0, ge=0, description="seed of the order of the samples within a split")
    workers: int | None = Field(
        None, ge=1, description="processes at once; unset: one per core. Changes no output"
    )
