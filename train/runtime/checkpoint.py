"""
Unfinished training on disk: tensors and their JSON state in one safetensors file, no pickle.

One file, replaced as a whole, so that tensors and state always belong together.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from train.errors import BadCheckpoint

Tensors = dict[str, Tensor]


def save(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Writes tensors and state, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(plain, part, metadata={"state": json.dumps(state, sort_keys=True)})
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    part.replace(path)


def load(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """
    Returns what `save` wrote.

    Raises:
        BadCheckpoint: The file is absent or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {}).get("state", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, state  # noqa: SIM118  # safe_open is no dictionary
    except (OSError, SafetensorError, ValueError) as error:
        raise BadCheckpoint(
            f"{path} cannot be read as weights ({error}). Remove it and train again."
        ) from error


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    """Returns the tensors under `prefix.name`."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def under(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    """Returns the tensors that `prefixed` gave this prefix, without it."""
    start = f"{prefix}."
    return {name[len(start) :]: t for name, t in tensors.items() if name.startswith(start)}


def fill(module: nn.Module, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """
    Copies tensors into `module`, in place.

    Raises:
        BadCheckpoint: A tensor is absent, left over, or of another shape.
    """
    own = module.state_dict()
    odd = sorted(own.keys() ^ tensors.keys())
    odd += [name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape]
    if odd:
        raise BadCheckpoint(
            f"The weights of {source} do not fit the network asked for: {', '.join(odd[:4])} "
            "differ. They were trained with another backbone, side or label count: train again, "
            "or restore the parameters of that time."
        )
    module.load_state_dict(dict(tensors))


def optimiser_tensors(optimiser: Optimizer) -> Tensors:
    """Returns the optimiser's own tensors by the position of their parameter."""
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    return {
        f"{place}.{name}": value
        for place, weight in enumerate(weights)
        for name, value in optimiser.state.get(weight, {}).items()
        if isinstance(value, Tensor)
    }


def fill_optimiser(optimiser: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Gives the optimiser back what `optimiser_tensors` returned."""
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    for name, value in tensors.items():
        place, _, key = name.partition(".")
        weight = weights[int(place)]
        # In the layout of the weight, which decides the last bits; counters such as Adam's stay
        # where torch keeps them, on the CPU.
        alike = value.shape == weight.shape
        optimiser.state[weight][key] = torch.empty_like(weight).copy_(value) if alike else value
