"""Section `decide`: the conditions under which a post is kept."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from personae.errors import BadParams
from scraper import filters
from scraper.filters import RuleLimits, Rules

READABLE: Final = ("jpg", "jpeg", "png", "webp")
"""The types of files that Personae reads."""
_IDS: Final = re.compile(r"[0-9]+(,[0-9]+)*")


class Params(BaseModel):
    """Section `decide`: what a post must be like. Tag sets and defaults follow the board's wiki."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ratings: tuple[Literal["g", "s", "q", "e"], ...] = Field(
        ("g",), description="ratings kept: general, sensitive, questionable, explicit"
    )
    file_types: tuple[str, ...] = Field(READABLE, description="image types kept")
    # Our choice: above the 180 pixels of Danbooru's smallest preview, so that no post is a thumbnail.
    # Folders of small images need 0.
    min_side: int = Field(256, ge=0, description="pixels of the shorter side at least")
    # Beyond 3 lie strips: comics, banners, phone wallpapers.
    max_aspect: float = Field(3.0, ge=1.0, description="largest ratio of longer to shorter side")
    skip: tuple[str, ...] = Field((), description="rules not applied, such as flagged")
    # `lowres` is an example where min_side is below 500 pixels.
    accept_tags: tuple[str, ...] = Field((), description="tags that rules ignore, such as lowres")
    refuse_tags: tuple[str, ...] = Field((), description="tags that refuse a post, such as chibi")
    # A file has ids separated by spaces, commas or lines, and comments after `#`.
    exclude_posts: tuple[str, ...] = Field((), description="ids, or files of ids, to refuse")
    relabel: str = Field("relabel.txt", description="file of corrected labels")

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
            excluded=frozenset(_ids(self.exclude_posts)),
        )

    @property
    def rules(self) -> Rules:
        """The rules that these values select."""
        return Rules(self.limits, frozenset(self.skip), frozenset(self.accept_tags))


def _ids(items: Iterable[str]) -> Iterator[int]:
    """
    Yields the post ids of `decide.exclude_posts`.

    Raises:
        BadParams: An item is neither ids nor a readable file, or a file holds other words.
    """
    for item in items:
        text, where = item, "'decide.exclude_posts'"
        if not _IDS.fullmatch(item):
            where = item
            try:
                lines = Path(item).expanduser().read_text(encoding="utf-8-sig").splitlines()
            except (OSError, ValueError) as error:
                raise BadParams(
                    f"'decide.exclude_posts' has {item!r:.80}, which is neither post ids (12,15) nor a file "
                    f"of them that can be read ({error})."
                ) from error
            text = " ".join(line.partition("#")[0] for line in lines)
        for word in text.replace(",", " ").split():
            if not word.isdecimal():
                raise BadParams(f"{where} has {word!r:.40}, which is no post id.")
            yield int(word)
