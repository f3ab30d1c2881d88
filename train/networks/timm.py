"""
Any image model of timm by name, as a backbone of one block and a dense head.

Nothing is downloaded. Training starts from drawn weights, or from a local safetensors file. See
docs/howto/method.md.
"""

import difflib
import importlib
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from personae.errors import BadParams, MissingPackage
from train.backbone import vision
from train.backbone.network import Network
from train.params.networks.timm import Params

_MODEL = "0.model"  # in the blocks
_SHOWN = 4  # names in a message


class Deviation(nn.Module):
    """
    Divides each channel by the standard deviation that pretrained weights were trained with.

    The trainer has already subtracted the mean of the training images.
    """

    def __init__(self, std: tuple[float, ...]) -> None:
        """Keeps the standard deviation of each channel, for pixels in 0..1."""
        super().__init__()
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)
        self.std: Tensor

    def forward(
        self, x: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch 3 height width"]:
        """Returns the scaled images."""
        return x / self.std


def network(params: Params, *, outputs: int, side: int) -> Network:
    """
    Returns the model without its classifier, and a new dense layer as the head.

    Raises:
        BadParams: timm has no such model.
        MissingPackage: timm or torchvision cannot be imported.
    """
    timm = _library()
    name = params.name.partition("/")[2]
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=_SHOWN)
        raise BadParams(
            f"timm has no model '{name}'. Near: {', '.join(near) or 'none'}. All of them:\n"
            "python -c 'from train.backbone import vision; vision.torchvision(); import timm; "
            "print(timm.list_models())'"
        )
    model = timm.create_model(name, pretrained=False, num_classes=0)
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    if params.pretrained is not None:
        parts["scale"] = Deviation(tuple(model.pretrained_cfg["std"]))
    parts["model"] = model
    features = getattr(model, "head_hidden_size", model.num_features)
    head = nn.Sequential(OrderedDict(predictions=nn.Linear(features, outputs)))
    return Network(nn.Sequential(nn.Sequential(parts)), head, side=side)


def fill(network: Network, path: Path) -> None:
    """
    Copies pretrained weights into the model; the head keeps its own.

    Args:
        network: The result of `network`.
        path: A safetensors file with the tensors of the model. Those of its classifier are ignored.

    Raises:
        BadParams: The file is absent or no safetensors file, or holds other tensors than the model.
    """
    model = network.blocks.get_submodule(_MODEL)
    try:
        given = load_file(path)
    except (OSError, SafetensorError) as error:
        raise BadParams(
            f"{path} cannot be read as safetensors ({error}). backbone.pretrained names a file such "
            "as model.safetensors of the model. Pickled weights (.pth, .bin) are refused, because "
            "reading them can run any code."
        ) from error
    own = model.state_dict()
    config: Any = model.pretrained_cfg
    classifiers = config["classifier"]  # a name, or several
    classifiers = (classifiers,) if isinstance(classifiers, str) else classifiers
    prefixes = tuple(f"{name}." for name in classifiers)
    given = {name: tensor for name, tensor in given.items() if not name.startswith(prefixes)}
    differences = {
        "missing": own.keys() - given.keys(),
        "unknown": given.keys() - own.keys(),
        "of another shape": {
            name for name in own.keys() & given.keys() if own[name].shape != given[name].shape
        },
    }
    if any(differences.values()):
        listed = "; ".join(_listed(kind, names) for kind, names in differences.items() if names)
        raise BadParams(
            f"{path} does not hold the weights of this model. Tensors {listed}. Set "
            "backbone.pretrained to a file of the model that backbone.name names."
        )
    model.load_state_dict(given)


def _listed(kind: str, names: set[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{kind}: {', '.join(sorted(names)[:_SHOWN])}{more}"


def _library() -> ModuleType:
    vision.torchvision()  # timm imports it too, which fails with a CPU build of torch
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise MissingPackage(
            f"timm cannot be imported ({error}). Install it: pip install 'personae[timm]'"
        ) from error
