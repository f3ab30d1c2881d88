"""
Section `runs` of params.yaml: which runs there are beside `flat`.

A run's name is the name of its folder in results/.
"""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Run(BaseModel):
    """
    An entry of section `runs`: a method with a grouping, or without one as costly as another run.

    Controls are runs like any other.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = Field(description="module in train/methods, and section of its parameters")
    grouping: str | None = Field(
        None, description="file in data/clustering/SEED that gives the tree; null: there is none"
    )
    like: str | None = Field(None, description="a control: the run whose cost it must equal")
    equal: Literal["train_flops", "macs", "params"] | None = Field(
        None, description="which cost: operations of training (the flat network that found the "
        "clusters included), expected MACs of a prediction, or parameters",
    )  # fmt: skip

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.like is None) != (self.equal is None) or (self.like and self.grouping):
            raise ValueError("a control has both like and equal, and no grouping")
        return self


class Runs(BaseModel):
    """Section `runs`: a name for each run, which is also its folder in results/."""

    model_config = ConfigDict(frozen=True, extra="allow")

    __pydantic_extra__: dict[str, Run]

    def named(self) -> dict[str, Run]:
        """Returns the runs by name."""
        return dict(self.__pydantic_extra__)
