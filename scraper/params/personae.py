"""Section `personae`: how many images make a persona, and how many personae become labels."""

from pydantic import BaseModel, ConfigDict, Field


class Params(BaseModel):
    """Section `personae`: how many images make a persona, and how many personae become labels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # 1000 is the size of the second data set in the Uppsala report.
    min_images: int = Field(1000, ge=1, description="images a label needs")
    # No limit by default, because every image helps.
    max_images: int | None = Field(
        None, ge=1, description="most images per persona, at least min_images; unset: all"
    )
    labels: int | None = Field(None, ge=1, description="number of personae, the largest ones")
    copyrights: tuple[str, ...] = Field(
        (), description="only personae of these series; none: of all"
    )
    include: tuple[str, ...] = Field(
        (), description="with --labels: personae that are taken first, whatever their rank"
    )
    exclude: tuple[str, ...] = Field((), description="personae that are never labels")
    look_alikes: bool = Field(
        default=False,
        description="with --labels: for each persona, also take the largest other form of the same "
        "character",
    )

    @property
    def most_images(self) -> int | None:
        """The largest number of images kept per persona; None is no limit."""
        return None if self.max_images is None else max(self.max_images, self.min_images)
