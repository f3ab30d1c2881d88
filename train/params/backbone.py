"""Section `backbone` of params.yaml: which network, and how large."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Attention = Literal["none", "se", "cbam"]
BASIC = {"resnet20": 3, "resnet32": 5, "resnet44": 7, "resnet56": 9, "resnet110": 18}
"""Basic blocks in each of the three stages."""
NAMES = ("uppsala_cnn", "fast_cnn", "nin", *BASIC, "resnet164", "densenet_bc_100")
TORCHVISION = "torchvision/"
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


class Params(BaseModel):
    """Section `backbone`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        "uppsala_cnn",
        description="uppsala_cnn, fast_cnn (for CPUs), nin, resnet20, resnet32, resnet44, resnet56, "
        "resnet110, resnet164, densenet_bc_100, or torchvision/NAME",
    )
    width: float = Field(
        1.0, gt=0, le=8, description="factor for all channel counts; 1: published size"
    )
    act: Literal["relu", "selu", "elu"] = Field(
        "relu", description="activation; elu: as in HierNet's ResNet"
    )
    init: Literal["glorot", "he", "gaussian"] | None = Field(
        None,
        description="initialisation; unset: that of the network",
    )
    attention: Attention = Field(
        "none",
        description="attention in residual blocks",
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
        if self.name not in NAMES and not self.name.startswith(TORCHVISION):
            raise ValueError(
                f"'{self.name}' is no backbone; known: {', '.join(NAMES)}, torchvision/NAME"
            )
        if self.attention != "none" and self.name not in (*BASIC, "resnet164"):
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
