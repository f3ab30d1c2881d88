"""
Several processes that train one network, one part of every batch each (`torchrun`).

Everything else of the program asks here who it is: one process alone is rank 0 of 1, and every
function below is then the identity.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

_PATIENCE = timedelta(hours=12)  # others wait while one decodes a large set for the first time


def rank() -> int:
    """Returns the number of this process, from 0; rank 0 writes the files."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """Returns how many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def expected() -> int:
    """Returns how many processes `torchrun` has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Joins the other processes that `torchrun` started, if it did: gloo on CPUs, NCCL on GPUs."""
    if expected() == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", device_id=device, timeout=_PATIENCE)
    else:
        dist.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def total(values: Tensor) -> Tensor:
    """Returns the sum of `values` over all processes; every one of them must call."""
    if size() > 1:
        dist.all_reduce(values)
    return values


def agreed(value: float, *, device: torch.device) -> float:
    """Returns rank 0's value on every process, so that clocks cannot part them."""
    if size() == 1:
        return value
    told = torch.tensor(value, dtype=torch.float64, device=device)
    dist.broadcast(told, src=0)
    return float(told)


def alike(tensors: Iterable[Tensor]) -> None:
    """Gives every process rank 0's values, in place."""
    if size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def wait() -> None:
    """Returns when every process has come here."""
    if size() > 1:
        dist.barrier()


@contextmanager
def one_first() -> Iterator[None]:
    """Runs the body on rank 0, then on the others, which find what it left on the disk."""
    if rank() > 0:
        wait()
    yield
    if rank() == 0:
        wait()


def shared(network: nn.Module, device: torch.device) -> nn.Module:
    """
    Returns what trains: the network itself, or torch's wrapper that averages its gradients.

    Norms take the statistics of each process's own part of the batch.
    """
    if size() == 1:
        return network
    devices = [device.index or 0] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(network, device_ids=devices)
