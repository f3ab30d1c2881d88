"""
Any classifier of torchvision by name, untrained, as a backbone of one block and a dense head.

Pretrained weights are not downloaded: all training uses the shards alone.
"""

from collections import OrderedDict

from torch import nn

from personae.errors import BadParams
from personae.settings import near_miss
from train.backbone import vision
from train.backbone.network import Network
from train.params.backbone import TORCHVISION, Params

_TWO_HEADS = ("googlenet", "inception_v3")


def network(params: Params, *, outputs: int, side: int) -> Network:
    """
    Returns torchvision's classifier; a new dense layer replaces its last one as the head.

    Raises:
        BadParams: torchvision has no such classifier, or the classifier ends in no dense layer.
        MissingPackage: torchvision cannot be imported.
    """
    name = params.name.removeprefix(TORCHVISION)
    models = vision.torchvision().models
    known = models.list_models(module=models)
    if name not in known:
        raise BadParams(
            f"torchvision has no classifier '{name}'. {near_miss(name, known)} It has "
            f"{', '.join(known)}: set backbone.name to torchvision/ and one of them."
        )
    # With their auxiliary heads they return more than logits.
    single = {"aux_logits": False, "init_weights": False} if name in _TWO_HEADS else {}
    model = models.get_model(name, weights=None, **single)
    dense = [path for path, part in model.named_modules() if isinstance(part, nn.Linear)]
    if not dense:
        raise BadParams(f"torchvision's '{name}' ends in no dense layer: choose another backbone.")
    last = model.get_submodule(dense[-1])
    model.set_submodule(dense[-1], nn.Identity())
    head = nn.Sequential(OrderedDict(predictions=nn.Linear(last.in_features, outputs)))
    return Network(nn.Sequential(model), head, side=side)
