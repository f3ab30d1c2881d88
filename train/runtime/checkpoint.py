"""
Checkpoints: tensors and their JSON state in one safetensors file, without pickle.

The file is replaced as a whole, so that tensors and state always belong together.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised
from torch import Tensor, nn
from torch.optim import Optimizer

from personae import files
from train.errors import BadCheckpoint

Tensors = dict[str, Tensor]


def save(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Writes tensors and state to `path`, whole or not at all."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # Not `save_file`: on a full disk it raises an error that is no OSError.
    metadata = {"state": json.dumps(state, sort_keys=True)}
    files.write_bytes(path, serialised(plain, metadata=metadata))


def sha256(path: Path) -> str:
    """
    Returns the SHA-256 of a file of weights.

    Raises:
        BadCheckpoint: The file is absent or unreadable.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def load(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """
    Returns the tensors and the state that `save` wrote.

    Raises:
        BadCheckpoint: The file is absent or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {}).get("state", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, state  # noqa: SIM118  # safe_open is no dictionary
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise _unreadable(path, error) from error


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
        BadCheckpoint: A tensor is absent, unknown, or of another shape.
    """
    own = module.state_dict()
    odd = sorted(own.keys() ^ tensors.keys())
    odd += [name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape]
    if odd:
        raise BadCheckpoint(
            f"The weights of {source} do not fit this network: {', '.join(odd[:4])} differ. They "
            "were trained with another backbone, side or number of labels. Train again, or restore "
            "the parameters they were trained with."
        )
    own.update(tensors)  # keeps the versions of layers, without which torchvision's MNASNet refuses
    module.load_state_dict(own)


def optimiser_tensors(optimiser: Optimizer) -> Tensors:
    """Returns the optimiser's own tensors under `INDEX.NAME`, INDEX being that of the parameter."""
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    return {
        f"{index}.{name}": value
        for index, weight in enumerate(weights)
        for name, value in optimiser.state.get(weight, {}).items()
        if isinstance(value, Tensor)
    }


def fill_optimiser(optimiser: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Puts the tensors of `optimiser_tensors` into the optimiser's state."""
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        weight = weights[int(index)]
        # The memory layout of the weight decides the last bits of a sum, so it is restored too.
        # Counters such as Adam's stay on the CPU, where torch keeps them.
        fits = value.shape == weight.shape
        optimiser.state[weight][key] = torch.empty_like(weight).copy_(value) if fits else value


def _unreadable(path: Path, error: Exception) -> BadCheckpoint:
    return BadCheckpoint(f"{path} cannot be read as weights ({error}). Remove it and train again.")
