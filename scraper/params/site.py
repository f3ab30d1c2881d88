"""Section `site`: which board is scraped, the contact, the rates and the limits on waiting."""

from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

FOLDER: Final = "folder"
"""Name of the site that is no board: labelled images on this machine."""


class Manners(BaseModel):
    """How requests are sent to a board: the contact, the rates and the limits on waiting."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    contact: str = Field(
        "", description="your e-mail, web page or account; required for public boards"
    )
    api_rate: float | None = Field(
        None,
        gt=0,
        description="API requests per second; unset: 1 on public boards, 10 on this machine",
    )
    cdn_rate: float | None = Field(
        None, gt=0, description="files per second; unset: 1 on public boards, 2000 on this machine"
    )
    daily_requests: int | None = Field(
        None,
        ge=1,
        description="most requests a UTC day, of all runs",
    )
    file_hosts: tuple[str, ...] = Field((), description="further hosts of files, HOST[:PORT]")
    connect_seconds: float = Field(10.0, gt=0, description="most seconds to connect")
    read_seconds: float = Field(60.0, gt=0, description="most seconds between two bytes")
    total_seconds: float = Field(180.0, gt=0, description="most seconds for one response")
    attempts: int = Field(5, ge=1, le=20, description="tries of one request")
    max_wait_seconds: float = Field(900.0, gt=0, description="longest obeyed Retry-After, seconds")


class Params(Manners):
    """Section `site`: which board, and how requests are sent to it."""

    name: str = Field(
        "demo",
        description="demo (built in), danbooru, URL of a compatible board, or folder",
    )
    folder: str = Field("", description="path of the labelled images, for site folder")

    @model_validator(mode="after")
    def _folder_has_a_path(self) -> Self:
        if self.name == FOLDER and not self.folder:
            raise ValueError("site 'folder' needs a path in 'site.folder', or --folder PATH")
        return self
