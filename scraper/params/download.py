"""Section `download`: which size is fetched, how many at once, and which files are refused."""

from pydantic import BaseModel, ConfigDict, Field


class Params(BaseModel):
    """Section `download`: which size is fetched, how many at once, and which files are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    side: int | None = Field(
        64,
        ge=1,
        description="download the smallest version whose longer side has at least this many "
        "pixels; null in params.yaml: the original",
    )
    workers: int = Field(8, ge=1, le=256, description="requests at once, within the rate")
    # Bounds the memory.
    queue: int = Field(64, ge=1, description="images that may wait between two steps")
    group: int = Field(64, ge=1, description="most images per ledger transaction")
    # A few large files suit DVC.
    segment_bytes: int = Field(256 * 2**20, ge=10_240, description="bytes of a full tar segment")
    max_bytes: int = Field(20 * 2**20, ge=1, description="largest image in bytes")
    # Well below the 89 million at which Pillow warns.
    max_pixels: int = Field(50_000_000, ge=1, description="largest image in pixels")
    # So many failures in a row, each after its retries, mean that the site or the network is at
    # fault, unless an image that is stored already arrives again.
    give_up_after: int = Field(20, ge=1, description="failed images in a row until it stops")
    deadline_seconds: float | None = Field(
        None, gt=0, description="seconds until it stops, resumable"
    )
    retry_refused: bool = Field(
        default=False, description="request again what was refused for good"
    )
    parts: tuple[str, ...] = Field((), description="data folders of `divide` to join first")
