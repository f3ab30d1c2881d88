"""Section `catalog` of params.yaml: no parameters."""

from pydantic import BaseModel, ConfigDict


class Params(BaseModel):
    """Section `catalog`, which has no parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")
