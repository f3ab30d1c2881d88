"""
Section `backbone` of params.yaml: which network, and how large.

`Params` is the model of the networks that come with the program and share most parameters. Any other
network has its own, a subclass of `Backbone` in train/params/networks.
"""

import importlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from personae.settings import modules_in, near_miss

Attention = Literal["none", "se", "cbam"]
BASIC = {"resnet20": 3, "resnet32": 5, "resnet44": 7, "resnet56": 9, "resnet110": 18}
"""Basic blocks in each of the three stages."""
NAMES = ("uppsala_cnn", "fast_cnn", "nin", *BASIC, "resnet164", "densenet_bc_100")
TORCHVISION = "torchvision/"
_OWN_MODELS = "train.params.networks"
_MODULES = {**dict.fromkeys((*BASIC, "resnet164"), "resnet"), "densenet_bc_100": "densenet"}
"""Module in train/networks where it has another name than the network."""
# Fields that only these backbones have.
_OWN = {
    "uppsala_cnn": (
        "widths",
        "dense",
        "identity_pools",
        "batch_norm",
        "dropout",
        "noise",
        "noise_at",
    ),
    "nin": ("dropout", "logit_relu"),
}


class Backbone(BaseModel):
    """What every network has: a name, FAMILY/NAME for a family of networks, and an initialisation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    init: Literal["glorot", "he", "gaussian"] | None = Field(
        None,
        description="initialisation; unset: that of the network",
    )

    @property
    def module(self) -> str:
        """The module in train/networks that builds the network."""
        return _MODULES.get(self.name, self.name.partition("/")[0])

    @property
    def weights(self) -> Path | None:
        """The file of pretrained weights that training starts from; None: they are drawn."""
        return None


class Params(Backbone):
    """Section `backbone`."""

    name: str = Field(
        "uppsala_cnn",
        description="uppsala_cnn, fast_cnn (for CPUs), nin, resnet20, resnet32, resnet44, resnet56, "
        "resnet110, resnet164, densenet_bc_100, torchvision/NAME, timm/NAME (extra timm), or a network "
        "of train/networks",
    )
    width: float = Field(
        1.0, gt=0, le=8, description="factor for all channel counts; 1: published size"
    )
    act: Literal["relu", "selu", "elu"] = Field(
        "relu", description="activation; elu: as in HierNet's ResNet"
    )
    attention: Attention = Field(
        "none",
        description="attention in residual blocks, and before each pool of torchvision's VGG",
    )
    widths: tuple[int, int, int, int, int] = Field(
        (64, 128, 128, 128, 128), description="uppsala_cnn: channels of blocks"
    )
    dense: int = Field(512, ge=1, le=8192, description="uppsala_cnn: units of the dense layers")
    identity_pools: Literal["first", "last", "none"] = Field(
        "first",
        description="uppsala_cnn: pools dropped for small images",
    )
    batch_norm: bool = Field(False, description="uppsala_cnn: batch norm after convolutions")
    dropout: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="uppsala_cnn, nin: dropout probability",
    )
    logit_relu: bool = Field(
        default=True,
        description="nin: ReLU on per-pixel class maps before pooling",
    )
    noise: float = Field(
        0.01, ge=0, le=1, description="uppsala_cnn: standard deviation of the noise"
    )
    noise_at: Literal["feature", "input"] = Field(
        "feature",
        description="uppsala_cnn: what noise is added to",
    )

    @model_validator(mode="after")
    def _check_fields(self) -> "Params":
        if not is_known(self.name):
            known = names()
            hint = near_miss(self.name, known)
            raise ValueError(f"'{self.name}' is no backbone.{hint} Known: {', '.join(known)}")
        attends = self.name in (*BASIC, "resnet164") or self.name.startswith(TORCHVISION)
        if self.attention != "none" and not attends:
            raise ValueError(f"{self.name} has no attention: leave the parameter out")
        fields = type(self).model_fields
        others = {name for own in _OWN.values() for name in own} - {*_OWN.get(self.name, ())}
        if self.name.startswith(TORCHVISION):
            others |= {"width", "act"}
        odd = [name for name in fields if name in others]
        odd = [name for name in odd if getattr(self, name) != fields[name].default]
        elu = self.name in BASIC or self.name.startswith(TORCHVISION)
        if self.name != "uppsala_cnn" and (self.act == "selu" or (self.act == "elu" and not elu)):
            odd.append("act")
        if odd:
            raise ValueError(f"{self.name} has no {', '.join(dict.fromkeys(odd))}: leave them out")
        if self.name == "uppsala_cnn" and self.act == "elu":
            raise ValueError("uppsala_cnn takes relu or selu")
        return self


def model_of_network(name: object) -> type[Backbone]:
    """Returns the model of a network's parameters; `Params` also for a name that is none."""
    module = str(name).partition("/")[0]
    if module not in modules_in(_OWN_MODELS):
        return Params
    model: type[Backbone] = importlib.import_module(f"{_OWN_MODELS}.{module}").Params
    return model


def is_known(name: object) -> bool:
    """Returns whether a network has this name; a library checks the names of its networks itself."""
    if model_of_network(name) is Params:
        return name in NAMES or str(name).startswith(TORCHVISION)
    module, _, rest = str(name).partition("/")
    return bool(rest) == (module in _families())


def names() -> list[str]:
    """Returns the known names; FAMILY/NAME stands for those of a family."""
    own = sorted(modules_in(_OWN_MODELS) - _families())
    return [*NAMES, *own, f"{TORCHVISION}NAME", *(f"{family}/NAME" for family in _families())]


def _families() -> set[str]:
    """Returns the modules whose networks have a name of their own in the module."""
    own = {name: model_of_network(name) for name in sorted(modules_in(_OWN_MODELS))}
    return {name for name, model in own.items() if model.model_fields["name"].is_required()}
