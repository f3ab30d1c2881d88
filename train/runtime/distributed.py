"""
Distributed data parallel training: several processes train one network, started by `torchrun`.

Each process computes its own part of every batch. Without `torchrun` there is one process, rank 0
of 1, and every collective below returns at once. The names are those of torch.distributed.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

_TIMEOUT = timedelta(hours=12)  # the other ranks wait while rank 0 decodes a large data set


def rank() -> int:
    """Returns the rank of this process; rank 0 writes the files."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Returns the number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def launched() -> int:
    """Returns the number of processes that `torchrun` has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_rank() -> int:
    """Returns the number of this process on its machine, and so of its GPU; 0 without `torchrun`."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Joins the process group of `torchrun`, if there is one: gloo on CPUs, NCCL on GPUs."""
    if launched() == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", device_id=device, timeout=_TIMEOUT)
    else:
        dist.init_process_group("gloo", timeout=_TIMEOUT)
    try:
        yield
    finally:
        dist.destroy_process_group()


def all_reduce(values: Tensor) -> Tensor:
    """Returns the sum of `values` over all processes, in place; every process must call it."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def broadcast(tensors: Iterable[Tensor]) -> None:
    """Copies the tensors of rank 0 to every process, in place."""
    if world_size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def broadcast_value(value: float, *, device: torch.device) -> float:
    """Returns the value of rank 0 on every process, so that all take the same decision."""
    if world_size() == 1:
        return value
    tensor = torch.tensor(value, dtype=torch.float64, device=device)
    dist.broadcast(tensor, src=0)
    return float(tensor)


def barrier() -> None:
    """Returns when every process has called it."""
    if world_size() > 1:
        dist.barrier()


@contextmanager
def rank_zero_first() -> Iterator[None]:
    """Runs the block on rank 0, then on the other ranks, which can read the files of rank 0."""
    if rank() > 0:
        barrier()
    yield
    if rank() == 0:
        barrier()


def data_parallel(network: nn.Module, device: torch.device) -> nn.Module:
    """
    Returns the network in DistributedDataParallel, or the network itself for one process.

    Batch norms use the statistics of each process's own part of the batch.
    """
    if world_size() == 1:
        return network
    devices = [device.index or 0] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(network, device_ids=devices)
