"""
Sections `runs` and `compare` of params.yaml: which runs there are beside `flat`.

A run's name is the name of its folder in results/. The control that costs as much as the run `like`
is called `LIKE_EQUAL`: `uppsala_macs` has the expected MACs of `uppsala`.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from personae.errors import BadParams

Equal = Literal["train_flops", "macs", "params", "ensemble"]
EQUALS: tuple[Equal, ...] = get_args(Equal)
FLAT = "flat"
TOLERANCE = 0.05  # a cost further from the one wanted is not called equal (methods.md 7.3)


class Run(BaseModel):
    """An entry of section `runs`: a method, with a grouping where it has a tree."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = Field(description="module in train/methods, and section of its parameters")
    grouping: str | None = Field(
        None, description="file in data/clustering/SEED that gives the tree; null: there is none"
    )
    params: dict[str, Any] = Field(
        default_factory=dict,
        description="values that this run has in place of its method's section",
    )
    backbone: dict[str, Any] = Field(
        default_factory=dict,
        description="values that this run has in place of those of section `backbone`, or of the "
        "whole section if `name` is one of them; only for a method that does not start from the flat "
        "network",
    )

    @property
    def like(self) -> None:
        """It is made as costly as no other run."""

    @property
    def equal(self) -> None:
        """It is made as costly as no other run."""


class Control(BaseModel):
    """A method without a tree that is made as costly as the run `like` (methods.md 7.3)."""

    model_config = ConfigDict(frozen=True)

    like: str
    equal: Equal
    """Operations of training, expected MACs or parameters of one network; ensemble: parameters of
    several networks together."""

    @property
    def method(self) -> str:
        """The module in train/methods."""
        return "ensemble" if self.equal == "ensemble" else FLAT

    @property
    def grouping(self) -> None:
        """There is no tree."""

    @property
    def name(self) -> str:
        """The folder in results/."""
        return f"{self.like}_{self.equal}"


class Runs(BaseModel):
    """Section `runs`: a name for each run, which is also its folder in results/."""

    model_config = ConfigDict(frozen=True, extra="allow")

    __pydantic_extra__: dict[str, Run]

    def named(self) -> dict[str, Run]:
        """Returns the runs by name."""
        return dict(self.__pydantic_extra__)


class Compare(BaseModel):
    """Section `compare`: what `dvc repro` trains and compares. Its lists are matrices of dvc.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fit: tuple[str, ...] = Field((), description="runs of section `runs` that are trained")
    like: tuple[str, ...] = Field((), description="runs of `fit` that get controls of equal cost")
    equal: tuple[Equal, ...] = Field(EQUALS, description="which controls each of them gets")
    evaluate: tuple[str, ...] = Field(
        (FLAT,), description="what is evaluated and reported: flat, names of `fit`, and LIKE_EQUAL"
    )

    def compared(self, runs: Mapping[str, Run]) -> dict[str, Run | Control]:
        """
        Returns what the report shows beside `flat`, by name and in its order.

        Raises:
            BadParams: A name is no run, or is evaluated without being trained.
        """
        controls = [Control(like=like, equal=equal) for like in self.like for equal in self.equal]
        known: dict[str, Run | Control] = {name: runs[name] for name in self.fit if name in runs}
        known |= {control.name: control for control in controls}
        self._check(self.fit, runs, where="fit", of="section 'runs'")
        self._check(self.like, self.fit, where="like", of="compare.fit")
        self._check(self.evaluate, {FLAT, *known}, where="evaluate", of="what is trained")
        return {name: known[name] for name in self.evaluate if name != FLAT}

    def _check(self, names: Any, known: Any, *, where: str, of: str) -> None:
        for name in names:
            if name not in known:
                raise BadParams(
                    f"compare.{where} names '{name}', which is none of {of}: "
                    f"{', '.join(sorted(known)) or 'nothing'}. Fix the list in params.yaml."
                )


def check_new(name: str, runs: Mapping[str, Run]) -> str:
    """
    Returns the name of a run that no section names.

    Raises:
        BadParams: It is no plain name of a folder, or another command writes that folder.
    """
    taken = {FLAT, *runs}
    if name in taken or not re.fullmatch(r"\w[\w.-]*", name):
        raise BadParams(
            f"'{name}' cannot be a new run: that takes the plain name of a folder, and other "
            f"commands write {', '.join(sorted(taken))}. Choose another."
        )
    return name
