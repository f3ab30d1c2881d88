"""
Section `runs` of params.yaml: which runs there are beside `flat`.

A run's name is the name of its folder in results/.
"""

from pydantic import BaseModel, ConfigDict, Field


class Run(BaseModel):
    """An entry of section `runs`: a method with a grouping. Controls are runs like any other."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = Field(description="module in train/methods, and section of its parameters")
    grouping: str = Field(description="file in data/clustering/SEED that gives the tree")


class Runs(BaseModel):
    """Section `runs`: a name for each run, which is also its folder in results/."""

    model_config = ConfigDict(frozen=True, extra="allow")

    __pydantic_extra__: dict[str, Run]

    def named(self) -> dict[str, Run]:
        """Returns the runs by name."""
        return dict(self.__pydantic_extra__)
