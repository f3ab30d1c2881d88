"""Section `backbone` with a network of timm: which one, and the weights that training starts from."""

from pathlib import Path

from pydantic import Field

from train.params.backbone import Backbone


class Params(Backbone):
    """Section `backbone` of a network of timm."""

    name: str = Field(
        pattern=r"^timm/\w[\w.]*$", description="timm/NAME, such as timm/resnet18: a model of timm"
    )
    pretrained: Path | None = Field(
        None,
        description="safetensors file with weights of this model, which training starts from; "
        "nothing is downloaded; unset: the weights are drawn",
    )

    @property
    def weights(self) -> Path | None:
        """The file of parameter `pretrained`."""
        return self.pretrained
