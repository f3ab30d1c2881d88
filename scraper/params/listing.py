"""Section `listing`: which posts are listed, and how many posts a request asks for."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Params(BaseModel):
    """Section `listing`: which posts are listed, and how many posts a request asks for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Empty lists every post, so that every refusal has its reason. An anonymous search may have
    # two terms; rating: and status: are free.
    terms: str = Field("", description="further search terms: solo rating:g")
    names: tuple[str, ...] = Field((), description="character tags; none: chosen by counts")
    # 3, because about a third of a persona's posts pass the rules.
    candidates_per_label: float = Field(
        3.0,
        ge=1,
        description="with --labels N: list this many times N candidates, as "
        "some keep too few images",
    )
    page_size: int = Field(200, ge=1, le=200, description="posts per request, at most 200")
    deadline_hours: float | None = Field(
        None, gt=0, description="hours until listing stops, resumable"
    )
    dump: str = Field(
        "",
        description="metadata of a board (.parquet, .jsonl, .csv) that chooses the posts",
    )
    # Dumps of before 2022 use the letter s for safe posts, which today are general or sensitive.
    rating_scale: Literal["gsqe", "sqe", "0123"] | None = Field(
        None, description="what ratings of the dump mean: today's gsqe, sqe (before 2022), 0123"
    )

    @model_validator(mode="after")
    def _dump_has_a_scale(self) -> Self:
        if self.dump and self.rating_scale is None:
            raise ValueError(
                "a dump needs 'listing.rating_scale' (--rating-scale): gsqe, sqe where s means safe "
                "(dumps of before 2022), or 0123"
            )
        return self
