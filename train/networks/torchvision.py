"""
Any classifier of torchvision by name, untrained, as blocks and a head that ends in a dense layer.

ResNet and its kin, VGG, AlexNet, MobileNet and EfficientNet become rows of blocks, so that a method can
cut them anywhere, and attention can be added to ResNet and VGG. Every other classifier is one block.
Pretrained weights are not downloaded: all training uses the shards alone.
"""

from collections import OrderedDict
from typing import Any

from torch import nn

from personae.errors import BadParams
from personae.settings import near_miss
from train.backbone import vision
from train.backbone.attention import attention
from train.backbone.network import Network
from train.params.backbone import TORCHVISION, Attention, Params

_TWO_HEADS = ("googlenet", "inception_v3")
_POOLED = ("VGG", "AlexNet")  # a block ends with a pooling layer
_ROWS = ("MobileNetV2", "MobileNetV3", "EfficientNet")  # a block is an entry of `features`


def network(params: Params, *, outputs: int, side: int) -> Network:
    """
    Returns torchvision's classifier; a new dense layer replaces its last one.

    Raises:
        BadParams: torchvision has no such classifier, the classifier ends in no dense layer, or it
            cannot have attention.
        MissingPackage: torchvision cannot be imported.
    """
    name = params.name.removeprefix(TORCHVISION)
    models = vision.torchvision().models
    known = models.list_models(module=models)
    if name not in known:
        raise BadParams(
            f"torchvision has no classifier '{name}'.{near_miss(name, known)} It has "
            f"{', '.join(known)}: set backbone.name to torchvision/ and one of them."
        )
    # With their auxiliary heads they return more than logits.
    single = {"aux_logits": False, "init_weights": False} if name in _TWO_HEADS else {}
    model = models.get_model(name, weights=None, **single)
    dense = [path for path, part in model.named_modules() if isinstance(part, nn.Linear)]
    if not dense:
        raise BadParams(f"torchvision's '{name}' ends in no dense layer: choose another backbone.")
    last = model.get_submodule(dense[-1])
    predictions = nn.Linear(last.in_features, outputs)
    kind = type(model).__name__
    if params.attention != "none" and kind not in ("ResNet", "VGG"):
        raise BadParams(
            f"torchvision's '{name}' has no attention here; its ResNet and VGG have. Leave "
            "backbone.attention out, or choose one of them."
        )
    head: OrderedDict[str, nn.Module] = OrderedDict()
    if kind == "ResNet":
        blocks = _residual(model, params.attention)
        head |= {"pool": model.avgpool, "flatten": nn.Flatten()}
    elif kind in _POOLED or kind in _ROWS:
        rows = _pooled(model, params.attention) if kind in _POOLED else list(model.features)
        blocks = nn.Sequential(*rows)
        pool = model.avgpool if hasattr(model, "avgpool") else nn.AdaptiveAvgPool2d(1)
        head |= {"pool": pool, "flatten": nn.Flatten(), "dense": model.classifier[:-1]}
    else:
        model.set_submodule(dense[-1], nn.Identity())
        blocks = nn.Sequential(model)
    return Network(blocks, nn.Sequential(head | {"predictions": predictions}), side=side)


def _residual(model: Any, attends: Attention) -> nn.Sequential:
    """Returns the stem and every residual block; attention scales maps before the shortcut is added."""
    blocks = nn.Sequential(nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool))
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        for block in stage:
            name = "bn3" if hasattr(block, "bn3") else "bn2"
            norm = block.get_submodule(name)
            if attends != "none":
                scaled = nn.Sequential(norm, attention(attends, norm.num_features))
                block.set_submodule(name, scaled)
            blocks.append(block)
    return blocks


def _pooled(model: Any, attends: Attention) -> list[nn.Module]:
    """Returns the layers up to each pooling layer; attention scales the maps that are pooled."""
    blocks, layers, channels = list[nn.Module](), list[nn.Module](), 0
    for layer in model.features:
        channels = getattr(layer, "out_channels", channels)
        is_last = isinstance(layer, nn.MaxPool2d)
        if is_last and attends != "none":
            layers.append(attention(attends, channels))
        layers.append(layer)
        if is_last:
            blocks.append(nn.Sequential(*layers))
            layers = []
    return [*blocks, *([nn.Sequential(*layers)] if layers else [])]
