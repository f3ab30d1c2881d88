"""
Sections `runs` and `compare` of params.yaml: the runs beside `flat`.

The name of a run is that of its folder in results/. The control with the same cost as the run `like`
is called `LIKE_EQUAL`: `uppsala_macs` has the expected MACs of `uppsala`.
"""

from collections.abc import Mapping
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from personae.errors import BadParams
from personae.settings import RUN_NAME

Equal = Literal["train_flops", "macs", "params", "ensemble"]
EQUALS: tuple[Equal, ...] = get_args(Equal)
FLAT = "flat"
TOLERANCE = 0.05  # largest relative difference between the costs of a control and of its run


class Run(BaseModel):
    """An entry of section `runs`: a method, and a grouping if the method uses a tree."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = Field(description="module in train/methods, and section of its parameters")
    grouping: str | None = Field(
        None, description="file in data/clustering/SEED with the tree; unset: no tree"
    )
    params: dict[str, Any] = Field(
        default_factory=dict,
        description="values of this run that replace those of its method's section",
    )
    backbone: dict[str, Any] = Field(
        default_factory=dict,
        description="values of this run that replace those of section `backbone`, or the whole "
        "section if they include `name`; only for methods that do not start from the flat network",
    )
    loop: dict[str, Any] = Field(
        default_factory=dict,
        description="values of this run that replace those of section `loop`, such as `epochs`",
    )

    data: dict[str, Any] = Field(
        default_factory=dict,
        description="values of this run that replace those of section `data`, such as `share`",
    )

    @property
    def like(self) -> None:
        """None: not a control with equal cost."""

    @property
    def equal(self) -> None:
        """None: not a control with equal cost."""


class Control(BaseModel):
    """A control without a tree that has the same cost as the run `like`."""

    model_config = ConfigDict(frozen=True)

    like: str
    equal: Equal
    """The equal cost: operations of training, expected MACs, or parameters of one network;
    ensemble: the parameters of several networks together."""

    @property
    def method(self) -> str:
        """The module in train/methods."""
        return "ensemble" if self.equal == "ensemble" else FLAT

    @property
    def grouping(self) -> None:
        """None: no tree."""

    @property
    def name(self) -> str:
        """The folder in results/."""
        return f"{self.like}_{self.equal}"


class Runs(BaseModel):
    """Section `runs`: the runs by name; the name is also that of the folder in results/."""

    model_config = ConfigDict(frozen=True, extra="allow")

    __pydantic_extra__: dict[str, Run]

    @model_validator(mode="after")
    def _names_fit_dvc(self) -> Self:
        """Checks each name as `Settings.check_sections` does, which `--help` does not call."""
        for name in self.__pydantic_extra__:
            if not RUN_NAME.fullmatch(name):
                raise ValueError(
                    f"'{name}' cannot be the name of a run: write letters, digits, _ and -"
                )
        return self

    def named(self) -> dict[str, Run]:
        """Returns the runs by name."""
        return dict(self.__pydantic_extra__)


class Compare(BaseModel):
    """Section `compare`: what `dvc repro` trains and compares. Its lists are matrices of dvc.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fit: tuple[str, ...] = Field((), description="runs of section `runs` that are trained")
    like: tuple[str, ...] = Field((), description="runs of `fit` that get controls of equal cost")
    equal: tuple[Equal, ...] = Field(EQUALS, description="the costs that those controls share")
    evaluate: tuple[str, ...] = Field(
        (FLAT,),
        description="runs that are evaluated and reported, flat or one of `fit`; controls always are",
    )

    def compared(self, runs: Mapping[str, Run]) -> dict[str, Run | Control]:
        """
        Returns the runs and controls that the report shows beside `flat`, by name, in its order.

        The controls of a run follow it: they are evaluated wherever they are trained.

        Raises:
            BadParams: A name is no run, or names a run that is evaluated and not trained.
        """
        self._check(self.fit, runs, where="fit", of="section 'runs'")
        self._check(self.like, self.fit, where="like", of="compare.fit")
        self._check(self.evaluate, {FLAT, *self.fit}, where="evaluate", of="flat and compare.fit")
        shown: dict[str, Run | Control] = {}
        for name in dict.fromkeys([*self.evaluate, *self.like]):
            if name in self.evaluate and name != FLAT:
                shown[name] = runs[name]
            if name in self.like:
                controls = [Control(like=name, equal=equal) for equal in self.equal]
                shown |= {control.name: control for control in controls}
        return shown

    def _check(self, names: Any, known: Any, *, where: str, of: str) -> None:
        for name in names:
            if name not in known:
                raise BadParams(
                    f"compare.{where} names '{name}', which is none of {of}: "
                    f"{', '.join(sorted(known)) or 'nothing'}. Fix the list in params.yaml."
                )


def check_new(name: str, runs: Mapping[str, Run]) -> str:
    """
    Returns `name` if it can be the folder of a new run.

    Raises:
        BadParams: The name is no plain folder name, or that of a run which another command writes.
    """
    taken = {FLAT, *runs}
    if name in taken or not RUN_NAME.fullmatch(name):
        raise BadParams(
            f"'{name}' cannot be a new run: it must be a plain folder name, and other commands "
            f"write {', '.join(sorted(taken))}. Choose another name."
        )
    return name
