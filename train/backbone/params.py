"""Section `backbone` of params.yaml: which network, and how large."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from train.backbone.attention import Attention
from train.backbone.resnet import BASIC

NAMES = ("uppsala_cnn", "fast_cnn", "nin", *BASIC, "resnet164", "densenet_bc_100")
TORCHVISION = "torchvision/"
# Fields that mean something to these backbones alone.
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
        description="uppsala_cnn (the report's), fast_cnn (ours, for CPUs), nin (HD-CNN's, for "
        "crops of 26 pixels), resnet20, resnet32, "
        "resnet44, resnet56, resnet110, resnet164, densenet_bc_100, or torchvision/NAME",
    )
    width: float = Field(
        1.0, gt=0, le=8, description="factor on all widths (and on dense); 1 is the published size"
    )
    act: Literal["relu", "selu", "elu"] = Field(
        "relu", description="activation; elu makes a resnet HierNet's flavour"
    )
    init: Literal["glorot", "he", "gaussian"] | None = Field(
        None,
        description="glorot: uniform, zero biases (Keras); he: normal, for large rates; "
        "gaussian: deviation 0.05; null: glorot for uppsala_cnn, gaussian for nin, he for the others",
    )
    attention: Attention = Field(
        "none",
        description="resnet20 to resnet164: in every residual block none, se (channels "
        "scaled), cbam (channels, then pixels)",
    )
    widths: tuple[int, int, int, int, int] = Field(
        (64, 128, 128, 128, 128), description="uppsala_cnn: channels of the five blocks"
    )
    dense: int = Field(512, ge=1, le=8192, description="uppsala_cnn: units of the dense layers")
    identity_pools: Literal["first", "last", "none"] = Field(
        "first",
        description="uppsala_cnn: which pools are left out until the last map is at least 3 × 3: "
        "first (the rule for small images, costly), last (cheap, for CPUs), none (tiny32: a "
        "1 × 1 map at 32 pixels)",
    )
    batch_norm: bool = Field(
        False, description="uppsala_cnn: normalise after each convolution; the report has none"
    )
    dropout: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="uppsala_cnn: share dropped after the dense layers; nin: after each pool",
    )
    logit_relu: bool = Field(
        default=True,
        description="nin: logits below zero count as zero, at every pixel (the original)",
    )
    noise: float = Field(
        0.01, ge=0, le=1, description="uppsala_cnn: standard deviation of the noise in training"
    )
    noise_at: Literal["feature", "input"] = Field(
        "feature",
        description="uppsala_cnn: where noise is added: the last map (the report's table) or input",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.name not in NAMES and not self.name.startswith(TORCHVISION):
            raise ValueError(
                f"'{self.name}' is no backbone; known: {', '.join(NAMES)}, torchvision/NAME"
            )
        if self.attention != "none" and self.name not in (*BASIC, "resnet164"):
            raise ValueError(f"{self.name} has no attention: leave it out")
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
            raise ValueError(f"{self.name} has no {', '.join(dict.fromkeys(odd))}: leave it out")
        if self.name == "uppsala_cnn" and self.act == "elu":
            raise ValueError("uppsala_cnn takes relu or selu")
        return self
