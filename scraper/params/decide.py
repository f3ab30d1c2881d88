"""Section `decide`: the conditions under which a post is kept."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from scraper import filters
from scraper.filters import RuleLimits, Rules


class Params(BaseModel):
    """Section `decide`: what a post must be like. Tag sets and defaults follow the board's wiki."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ratings: tuple[Literal["g", "s", "q", "e"], ...] = Field(
        ("g",), description="ratings kept: general, sensitive, questionable, explicit"
    )
    file_types: tuple[str, ...] = Field(
        ("jpg", "jpeg", "png", "webp"), description="image types kept"
    )
    # Our choice: above the 180 pixels of Danbooru's smallest preview, so that no post is a thumbnail.
    # Folders of small images need 0.
    min_side: int = Field(256, ge=0, description="pixels of the shorter side at least")
    # Beyond 3 lie strips: comics, banners, phone wallpapers.
    max_aspect: float = Field(3.0, ge=1.0, description="largest ratio of longer to shorter side")
    skip: tuple[str, ...] = Field((), description="rules not applied, such as flagged")
    # `lowres` is an example where min_side is below 500 pixels.
    accept_tags: tuple[str, ...] = Field((), description="tags that rules ignore, such as lowres")
    refuse_tags: tuple[str, ...] = Field((), description="tags that refuse a post, such as chibi")

    @field_validator("skip")
    @classmethod
    def _only_known_rules(cls, skip: tuple[str, ...]) -> tuple[str, ...]:
        for reason in skip:
            if reason not in filters.RULES:
                raise ValueError(f"'{reason}' is no rule; known: {', '.join(filters.RULES)}")
            if reason in filters.INDISPENSABLE:
                raise ValueError(f"'{reason}' cannot be skipped: without it there is no label")
        return skip

    @property
    def limits(self) -> RuleLimits:
        """The values that the rules compare with."""
        return RuleLimits(
            ratings=frozenset(self.ratings),
            file_types=frozenset(self.file_types),
            min_side=self.min_side,
            max_aspect=self.max_aspect,
            refuse_tags=frozenset(self.refuse_tags),
        )

    @property
    def rules(self) -> Rules:
        """The rules that these values select."""
        return Rules(self.limits, frozenset(self.skip), frozenset(self.accept_tags))
